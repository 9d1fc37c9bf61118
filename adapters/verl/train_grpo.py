"""Runs verl's GRPO trainer on the config that the plan wrote; inside its environment. It starts Ray, and ends it.

Usage: python -m adapters.verl.train_grpo [--chat-template FILE] backend/train.yaml

The same config runs under verl's own entry (`python -m verl.trainer.main_ppo --config-dir backend --config-name
train`).
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.verl.checkpoints import same_world
from adapters.verl.compose import compose


def main(file: Path, template: Path | None) -> None:
    import ray
    from omegaconf import open_dict
    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    from adapters.verl.grpo_trainer import Runner

    config = compose(file)
    same_world(config.trainer.resume_from_path, config.trainer.nnodes * config.trainer.n_gpus_per_node)
    if template:
        with open_dict(config):
            config.actor_rollout_ref.model.custom_chat_template = template.read_text(encoding="utf-8")
    auto_set_device(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    directory = Path(config.ray_kwargs.ray_init._temp_dir)
    segments = directory.with_name(f"{directory.name}.segments")
    _clear(directory, segments)  # of an attempt that was killed
    signal.signal(signal.SIGTERM, _end)
    ray._private.utils.set_sigterm_handler = lambda handler: None  # Ray's would end all without the clean-up
    threading.Thread(target=_note_shared_memory, args=(segments,), daemon=True).start()
    try:
        run_ppo(config, task_runner_class=ray.remote(Runner))
    finally:
        ray.shutdown()
        _clear(directory, segments)


def _note_shared_memory(file: Path) -> None:
    """Write down what our processes hold of it: Ray ends vLLM before that can give its queues back, 400 MB a run."""
    import psutil

    found: set[str] = set()
    while True:
        known = len(found)
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                found |= {held.path for held in child.memory_maps() if held.path.startswith("/dev/shm/")}
        if len(found) > known:
            file.write_text("\n".join(sorted(found)), encoding="utf-8")
        time.sleep(10)


def _clear(directory: Path, segments: Path) -> None:
    """Remove Ray's directory, and the shared memory that was written down."""
    for name in segments.read_text(encoding="utf-8").splitlines() if segments.is_file() else []:
        Path(name).unlink(missing_ok=True)
    segments.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _end(number: int, _frame: Any) -> None:
    sys.exit(128 + number)  # so that the clean-up runs


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--chat-template", type=Path)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    main(given.file, given.chat_template)
