"""Composes verl's configuration tree with the plan's file laid over it; inside its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def compose(file: Path) -> Any:
    """The config as verl's own entry would have it (`--config-dir backend --config-name train`)."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(file.resolve().parent), version_base=None):
        return hydra_compose(file.stem)
