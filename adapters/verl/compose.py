"""Composes verl's configuration tree with the plan's file laid over it; inside its environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

OTHER_WEIGHTS = ["*.gguf", "*.onnx", "*.msgpack", "*.h5", "*.pth", "original/*"]


def compose(file: Path, revision: str | None = None) -> Any:
    """The config as verl's own entry would have it (`--config-dir backend --config-name train`).

    Args:
        revision: of the model on the hub, for which verl has no key: its snapshot's directory becomes the model's path.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(file.resolve().parent), version_base=None):
        config = hydra_compose(file.stem)
    # verl names project and run to the tracker itself, which would win over what the user has told it.
    config.trainer.project_name = os.environ.get("WANDB_PROJECT") or config.trainer.project_name
    config.trainer.experiment_name = os.environ.get("WANDB_NAME") or config.trainer.experiment_name
    if revision:
        from huggingface_hub import snapshot_download

        model = config.actor_rollout_ref.model if "actor_rollout_ref" in config else config.model
        model.path = snapshot_download(model.path, revision=revision, ignore_patterns=OTHER_WEIGHTS)
    return config
