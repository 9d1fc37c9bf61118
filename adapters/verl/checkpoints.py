"""Which of verl's checkpoints are whole; no framework needed, so the runner and the training environment share it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from adapters.contract import Checkpoint
from recipes.files import write_text

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


def forget_later(directory: Path, step: int) -> None:
    """Have the tracker name a step again: what a kill leaves of a later one is then not taken for whole."""
    write_text(directory / TRACKER, str(step))


def prune(directory: Path, keep: int | None) -> None:
    """Remove all but the newest `keep` whole checkpoints."""
    for checkpoint in whole_checkpoints(directory)[keep:] if keep else []:
        shutil.rmtree(checkpoint.path, ignore_errors=True)


def weights(checkpoint: Path) -> Path:
    """Where its shards lie: GRPO puts the trained model under `actor`."""
    return checkpoint / "actor" if (checkpoint / "actor").is_dir() else checkpoint


def world_size(checkpoint: Path) -> int | None:
    """How many processes wrote it; None where it does not say (Megatron)."""
    try:
        return int(json.loads((weights(checkpoint) / "fsdp_config.json").read_text(encoding="utf-8"))["world_size"])
    except (OSError, ValueError, KeyError):
        return None


def same_world(start: str | None, now: int) -> None:
    """verl's shards load on as many processes as wrote them, and its own failure names a missing file."""
    wrote = world_size(Path(start)) if start else None
    if wrote not in (None, now):
        raise SystemExit(f"{start} was written by {wrote} processes, and this run has {now}: resume on as many")


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
    rows = path / ("data_0.pt" if weights(path) == path else "data.pt")
    wanted = [rows, *(weights(path) / name for name in (*shards, "huggingface/config.json"))]
    return bool(world) and all(file.is_file() for file in wanted)
