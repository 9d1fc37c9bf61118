"""Takes a run back to one of its checkpoints: what came after it is set aside, whole, and named.

aside-1/                 in the run directory, with the names that things had in it
    checkpoints/         later ones
    metrics.jsonl        as it was, with the backend's own lines under backend/
    eval/                scores of later checkpoints, and of the finished model
    model/, merged/      where there were any
    aside.json           what lies here, and from which step the run went on
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters import backend
from adapters.contract import Backend
from recipes import UserError
from recipes.typed import write_typed
from runner.runs.checkpoints import checkpoint_of, whole_checkpoints
from runner.runs.claim import held
from runner.runs.remove import standing_on
from runner.runs.rundir import Run
from runner.scoring.history import STEP, run_history, scored
from runner.training import metrics

Say = Callable[[str], None]
STAYS = ("base", "rows", "cache")  # under eval/: of the base model, and answers, which are kept by the model's content


@dataclass(frozen=True, kw_only=True)
class Aside:
    """The content of aside.json."""

    step: int
    attempt: int
    paths: tuple[str, ...]


def go_back(run: Run, step: int, say: Say, *, longer: bool = False) -> None:
    """Make the checkpoint of a step the newest of a run that nobody works on.

    Args:
        longer: the training is to have more steps than it had: it goes on after its last step too.

    Raises:
        UserError: there is no such whole checkpoint, or nothing is left to train after it.
    """
    check_back(run, step, longer=longer)
    chosen, manifest = checkpoint_of(run, step), run.read()
    module, directory = backend(manifest.backend), _free(run)
    later = list(_later(run, step))
    # First of all: a run that is killed while its parts are moved reads as crashed, and is resumed like any other.
    run.update(state="prepared", trained_steps=None, ended_early=False, model_step=None, finished="", reason="")
    if later or longer or any(line["step"] > step for line in run.steps()):
        _keep_metrics(run, directory)
        for path in later:  # the newest checkpoint first: at any moment the newest one left is one to go on from
            target = directory / path.relative_to(run.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        kept = tuple(sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()))
        write_typed(directory / "aside.json", Aside(step=step, attempt=len(manifest.attempts), paths=kept))
        say(f"set aside in {directory}: {', '.join(_named(run, later, step))}")
    module.forget_later(chosen.path.parent, step)
    forget_metrics(run, module, step, total=not longer)
    _write_history(run)


def check_back(run: Run, step: int, *, longer: bool = False) -> None:
    """Raise UserError where a run cannot go back to a step."""
    checkpoint_of(run, step)
    manifest = run.read()
    if held(run.path / "eval"):
        raise UserError(f"{run.name} is being evaluated: wait for it, or stop it")
    needing = [one.name for one in standing_on(run)]
    if needing:
        text = f"{run.name} cannot go back: the model of {', '.join(needing)} stands on its files, which would move"
        raise UserError(f"{text}; begin another run with its weights: recipe run RECIPE --from {run.name}:{step}")
    if manifest.trained_steps == step and not manifest.ended_early and not longer:
        text = f"{run.name}: step {step} is the last of the training: nothing is left to train after it"
        raise UserError(f"{text} (--more-epochs N makes it longer)")


def forget_metrics(run: Run, module: Backend, step: int, *, total: bool) -> None:
    """Take the steps after one out of the metrics, ours and those of earlier attempts, which a resume reads again."""
    for attempt in run.read().attempts:
        metrics.trim(run.path / attempt.metrics, module, step, total=total)
    if run.metrics.is_file():
        metrics.cut(run.metrics, step)


def _free(run: Run) -> Path:
    return next(path for n in range(1, 100_000) if not (path := run.path / f"aside-{n}").exists())


def _later(run: Run, step: int) -> Iterator[Path]:
    """What stands in a run of the time after a step."""
    yield from (one.path for one in whole_checkpoints(run) if one.step > step)
    yield from (path for name in ("model", "merged", "exported") if (path := run.path / name).exists())
    for path in sorted((run.path / "eval").glob("*")):
        number = path.name.removeprefix(STEP)
        stays = int(number) <= step if number.isdigit() else path.name in STAYS or path.name.startswith(".")
        if not stays:
            yield path
    for path in sorted((run.path / "rollouts").glob("*")):
        if path.stem.isdigit() and int(path.stem) > step:
            yield path


def _keep_metrics(run: Run, directory: Path) -> None:
    """Copies: the files go on being written."""
    for path in (run.metrics, *(run.path / attempt.metrics for attempt in run.read().attempts)):
        if path.is_file():
            target = directory / path.relative_to(run.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _named(run: Run, later: list[Path], step: int) -> Iterator[str]:
    checkpoints = [path.name for path in later if path.parent.name == "checkpoints"]
    if checkpoints:
        yield f"{len(checkpoints)} checkpoints ({', '.join(reversed(checkpoints))})"
    steps = {line["step"] for line in run.steps() if line["step"] > step}
    if steps:
        yield f"the metrics of {len(steps)} steps"
    yield from (f"{path.relative_to(run.path)}" for path in later if path.parent.name != "checkpoints")


def _write_history(run: Run) -> None:
    if scored(run):
        write_typed(run.path / "eval" / "eval_history.json", run_history(run, run.recipe().recipe))
