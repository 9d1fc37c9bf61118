"""Which of the Trainer's checkpoints are whole; no framework needed, so the runner and the export share it."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.contract import Checkpoint


def whole_checkpoints(directory: Path) -> list[Checkpoint]:
    """The checkpoints `checkpoint-N` that the Trainer finished, newest first."""
    found = []
    for path in directory.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        # trainer_state.json is the last file that the Trainer writes into a checkpoint.
        if number.isdigit() and _readable(path / "trainer_state.json"):
            found.append(Checkpoint(step=int(number), path=path))
    return sorted(found, key=lambda c: -c.step)


def _readable(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
