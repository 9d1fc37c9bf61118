"""What runs are called beside each other: no two are called the same, and none as a base model is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.runs.rundir import Run

BASE = "base"  # what the first base model of a comparison is called; others are "base of RUN"


def names_of(chosen: Sequence[Run]) -> dict[Path, str]:
    """By path the name of each run, behind as much of its directory as tells it from the others and from a base model.

    A path that is there twice is one run.
    """
    paths = list(dict.fromkeys(run.path for run in chosen))
    return {path: _name(path, paths) for path in paths}


def _name(path: Path, others: Sequence[Path]) -> str:
    for depth in range(1, len(path.parts)):
        own = path.parts[-depth:]
        name = "/".join(own)
        if not _of_base(name) and sum(other.parts[-depth:] == own for other in others) == 1:
            return name
    return str(path)


def _of_base(name: str) -> bool:
    return name == BASE or name.startswith(f"{BASE} of ")
