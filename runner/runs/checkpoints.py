"""The whole checkpoints of a run, and what they take on disk."""

from __future__ import annotations

import os
from pathlib import Path

from adapters import BACKENDS, backend
from adapters.contract import Checkpoint
from recipes import UserError, did_you_mean
from runner.runs.rundir import Damaged, Run


def whole_checkpoints(run: Run) -> list[Checkpoint]:
    """The whole checkpoints of a run, newest first.

    Raises:
        Damaged: its manifest names no backend of ours.
    """
    name = run.read().backend
    if name not in BACKENDS:
        raise Damaged(f"{run.path / 'run.json'}: damaged: no backend is called {name!r}{did_you_mean(name, BACKENDS)}")
    return backend(name).checkpoints(run.path / "checkpoints")


def checkpoint_of(run: Run, step: int) -> Checkpoint:
    """The whole checkpoint of a step.

    Raises:
        UserError: there is none; it lists those that there are.
    """
    found = whole_checkpoints(run)
    for checkpoint in found:
        if checkpoint.step == step:
            return checkpoint
    steps = ", ".join(str(one.step) for one in reversed(found))
    having = f"whole ones: {steps}" if steps else "it has none at all"
    raise UserError(f"{run.name} has no whole checkpoint of step {step}; {having} (see `recipe runs {run.name}`)")


def size_of(path: Path) -> int:
    """Bytes of a file or of all files below a directory; a link counts as itself, a file of two names once."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    sizes = {}
    for directory, folders, files in os.walk(path):
        for name in (*files, *folders):
            found = os.lstat(os.path.join(directory, name))  # noqa: PTH118 - of thousands of files: no Path for each
            sizes[found.st_dev, found.st_ino] = found.st_size
    return sum(sizes.values())


def shown_size(size: float) -> str:
    """Bytes as a person reads them: `1.5 GB`, of 10^9 bytes."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} bytes"
