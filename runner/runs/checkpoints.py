"""The whole checkpoints of a run, and what they take on disk."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
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
    return sum({(one.st_dev, one.st_ino): one.st_size for one in _files(path)}.values())


def freed_by(paths: Iterable[Path]) -> int:
    """Bytes that removing them gives back: none for a file that has another name elsewhere, as weights in `model/`."""
    sizes: dict[tuple[int, int], int] = {}
    names: Counter[tuple[int, int]] = Counter()
    links: dict[tuple[int, int], int] = {}
    for one in (found for path in paths for found in _files(path)):
        place = one.st_dev, one.st_ino
        names[place] += 1
        sizes[place], links[place] = one.st_size, 1 if stat.S_ISDIR(one.st_mode) else one.st_nlink
    return sum(size for place, size in sizes.items() if names[place] >= links[place])


def _files(path: Path) -> Iterator[os.stat_result]:
    """What is at a path and below it; links are not followed."""
    if not path.is_dir() or path.is_symlink():
        yield path.lstat()
        return
    for directory, folders, files in os.walk(path):
        for name in (*files, *folders):
            yield os.lstat(os.path.join(directory, name))  # noqa: PTH118 - of thousands of files: no Path for each


def shown_size(size: float) -> str:
    """Bytes as a person reads them: `1.5 GB`, of 10^9 bytes."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} bytes"
