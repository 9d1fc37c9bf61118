"""`recipe rm`: removes runs, or their checkpoints alone; none that is used, and nothing through links."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from recipes import UserError
from runner.runs.checkpoints import freed_by
from runner.runs.claim import Claimed, claim, held
from runner.runs.rundir import Damaged, Run, find, runs

PART = ".removed-"  # before the name of a run that is being removed


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What would be removed of a run, and the bytes that this would free."""

    run: Run
    paths: tuple[Path, ...]
    size: int


def removals(names: Sequence[str], directory: Path, *, checkpoints: bool) -> list[Removal]:
    """What would be removed; nothing is, where one of the runs is refused.

    Args:
        checkpoints: their checkpoints only; `model/`, metrics and scores stay.

    Raises:
        UserError: one is no run, is being worked on, leads elsewhere, or another run starts from it.
    """
    found = [_run(name, directory) for name in dict.fromkeys(names)]
    problems = [text for run in found if (text := _refusal(run, found, whole=not checkpoints))]
    if problems:
        raise UserError(*problems, "nothing was removed")
    return [_removal(run, checkpoints) for run in found]


def _run(name: str, directory: Path) -> Run:
    run = find(name, directory)
    given = Path(name) if (Path(name) / "run.json").is_file() else directory / name
    named_inside = Path(os.path.abspath(given)).is_relative_to(os.path.abspath(directory))  # noqa: PTH100 - links as named
    if given.is_symlink() or (named_inside and not run.path.is_relative_to(directory.resolve())):
        raise UserError(f"{given} leads through a link to {run.path}: remove the link, or name the run where it lies")
    return run


def _refusal(run: Run, others: Sequence[Run], *, whole: bool) -> str:
    if held(run.path):
        return f"{run.name} is running: stop it first"
    if held(run.path / "eval"):
        return f"{run.name} is being evaluated: wait for it, or stop it"
    if (run.path / "checkpoints").is_symlink() and not whole:
        return f"{run.path / 'checkpoints'} is a link: nothing is removed through it"
    removed = {one.path for one in others}
    needing = [one.name for one in standing_on(run) if one.path not in removed] if whole else []
    return f"{run.name}: the model of {', '.join(needing)} stands on its files: remove that first" if needing else ""


def standing_on(run: Run) -> list[Run]:
    """The runs beside it whose base is a model of this run, or that still have to be trained on its adapter."""
    return [one for one in runs(run.path.parent) if one.path != run.path and _stands_on(one, run)]


def _stands_on(other: Run, run: Run) -> bool:
    try:
        manifest = other.read()
    except Damaged:
        return False
    places = [manifest.model]
    if manifest.parent and manifest.state != "succeeded":
        places.append(manifest.parent.path)
    return any(Path(place).is_relative_to(run.path) for place in places)


def _removal(run: Run, checkpoints: bool) -> Removal:
    if not checkpoints:
        return Removal(run=run, paths=(run.path,), size=freed_by([run.path]))
    # Those that a resume from an earlier step has set aside too.
    places = [run.path / "checkpoints", *sorted(run.path.glob("aside-*/checkpoints"))]
    found = [path for place in places if place.is_dir() and not place.is_symlink() for path in sorted(place.iterdir())]
    return Removal(run=run, paths=tuple(found), size=freed_by(found))


def remove(found: Sequence[Removal], say: Callable[[str], None]) -> None:
    """Remove what `removals` has found.

    Raises:
        UserError: somebody began to work on a run meanwhile.
    """
    for one in found:
        with ExitStack() as claims:
            try:
                claims.enter_context(claim(one.run.path))
                if (one.run.path / "eval").is_dir():
                    claims.enter_context(claim(one.run.path / "eval"))
            except Claimed as error:
                raise UserError(f"{one.run.name} is in use: {error}") from None
            for path in one.paths:
                _remove(path, one.run)
        say(f"removed {'' if one.paths == (one.run.path,) else 'checkpoints of '}{one.run.path}")
    for place in {one.run.path.parent for one in found}:
        for left in place.glob(f"{PART}*"):  # of a removal that was killed
            shutil.rmtree(left, ignore_errors=True)  # another one may be at it


def _remove(path: Path, run: Run) -> None:
    """A whole run is first renamed: where that is killed, what is left is no run, and no name in the way."""
    if path == run.path:
        aside = Path(tempfile.mkdtemp(prefix=PART, dir=path.parent)) / "run"
        path.rename(aside)
        path = aside.parent
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
