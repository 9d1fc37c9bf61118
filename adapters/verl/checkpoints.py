"""Which of verl's checkpoints are whole; no framework needed, so the runner and the training environment share it."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.plan import Checkpoint

TRACKER = "latest_checkpointed_iteration.txt"


def whole_checkpoints(directory: Path) -> list[Checkpoint]:
    """The checkpoints `global_step_N` that verl finished and that have all their files, newest first."""
    found = []
    for path in directory.glob("global_step_*"):
        number = path.name.removeprefix("global_step_")
        # verl writes the tracker last: a later step than it names was being written when the run died.
        if number.isdigit() and int(number) <= _tracked(directory) and _complete(path):
            found.append(Checkpoint(step=int(number), path=path))
    return sorted(found, key=lambda c: -c.step)


def world_size(checkpoint: Path) -> int | None:
    """How many processes wrote it; None where it does not say (Megatron)."""
    try:
        return int(json.loads((checkpoint / "fsdp_config.json").read_text(encoding="utf-8"))["world_size"])
    except (OSError, ValueError, KeyError):
        return None


def _tracked(directory: Path) -> int:
    try:
        return int((directory / TRACKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def _complete(path: Path) -> bool:
    if (path / "model").is_dir():
        return True  # Megatron's layout; the tracker vouches for it
    world = world_size(path)
    shards = [
        f"{kind}_world_size_{world}_rank_{n}.pt"
        for kind in ("model", "optim", "extra_state")
        for n in range(world or 0)
    ]
    wanted = [*shards, "data_0.pt", "huggingface/config.json"]
    return bool(world) and all((path / name).is_file() for name in wanted)
