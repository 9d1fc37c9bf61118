"""A sweep: every trial is a run of its own, made, gone on with or taken as it is; best.yaml is the best as a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from eval.report.history import History
from recipes import LoadedRecipe, UserError, load_text
from recipes.files import write_text
from recipes.typed import write_typed
from runner.failure import Failure
from runner.runs.claim import Claimed, claim
from runner.runs.rundir import Run
from runner.runs.show import table
from runner.sweeping.page import html
from runner.sweeping.record import (
    Objective,
    Search,
    Sweep,
    Trial,
    check_same,
    concluded,
    history,
    judged,
    main_effects,
    read,
    rows,
)
from runner.sweeping.search import Study
from runner.sweeping.values import Grid, Range, Values, combinations, corners, overrides, told
from runner.training.command import score_finished
from runner.training.conditions import values as leaves
from runner.training.copying import copied
from runner.training.named import is_scored, run_named, wanted
from runner.training.train import Options

MOST = 512  # combinations that a search is checked by
FOLDER = "sweeps"  # of the runs' directory


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A sweep as the command line gives it; `search`: by Optuna, else the full grid."""

    loaded: LoadedRecipe
    name: str
    goal: Objective
    grids: tuple[Grid, ...]
    ranges: tuple[Range, ...]
    search: Search | None

    def recipe(self, values: Values) -> LoadedRecipe:
        """The recipe of a trial."""
        return load_text(self.loaded.source, self.loaded.path, [*self.loaded.overrides, *overrides(values)])


def planned(asked: Asked, options: Options) -> list[Values]:
    """Check every combination before anything trains: of a grid all, of a search its values and the ends of ranges.

    Raises:
        UserError: some are refused; each is named, with its reasons.
    """
    every = corners(asked.grids, asked.ranges, MOST) if asked.search else combinations(asked.grids)
    found = list(every)
    problems: list[str] = []
    for number, values in enumerate(found, 1):
        try:
            # Of a search nobody knows yet which number has which values: a run of a name is looked at when it is drawn.
            name = _name(asked, number) if not asked.search else f"{asked.name}-0"
            wanted(asked.recipe(values), name, options.runs_dir, options.parent)
        except UserError as error:
            problems += [f"{told(values)}: {line}" for line in str(error).splitlines()]
    if problems:
        raise UserError(*problems, "nothing was trained: take these values out, or what they do not go with")
    return found


def _name(asked: Asked, number: int) -> str:
    return f"{asked.name}-{number}"


def run_sweep(asked: Asked, options: Options) -> tuple[Sweep, Path]:
    """Have all trials of a sweep ended, and write down which is best; what has ended before is not repeated.

    A trial that fails is named, and the others go on; of a grid, the same command tries it again.

    Raises:
        UserError: a combination is refused, or the directory is another sweep's.
        Failure: no trial succeeded.
        Interrupted: the same command goes on from there.
    """
    directory = options.runs_dir.resolve() / FOLDER / asked.name
    sweep = Sweep(
        recipe=str(asked.loaded.path.resolve()), base=leaves(asked.loaded), objective=asked.goal,
        grids=asked.grids, ranges=asked.ranges, search=asked.search,
    )  # fmt: skip
    old = read(directory)
    if old:
        check_same(old, sweep, directory)
        sweep = replace(sweep, trials=old.trials)
    points = planned(asked, options)
    with _alone(directory, asked.name):
        study = Study(directory, asked.search, asked.goal, asked.grids, asked.ranges) if asked.search else None
        for number in range(1, (asked.search.trials if asked.search else len(points)) + 1):
            values = study.values(number) if study else points[number - 1]
            trial = Trial(number=number, values=values, run=_name(asked, number))
            before = next((one for one in sweep.trials if one.number == number), None)
            # A failed run goes on where it was; Optuna has its end already, and would not take another.
            if before and (before.state in ("succeeded", "pruned") or (study and not study.open(number))):
                if study:
                    study.tell(number, before.state, before.score)
                continue
            options.say(f"trial {number}: {told(values)}")
            sweep = _with(sweep, trial)
            write_typed(directory / "sweep.json", sweep)
            trial = _tried(asked, trial, study, options)
            sweep = _with(sweep, trial)
            write_typed(directory / "sweep.json", sweep)
            if study:
                study.tell(number, trial.state, trial.score)
        sweep = _concluded(sweep, study, options)
        _leave(sweep, asked, directory, options)
    if sweep.best is None:
        raise Failure(f"{asked.name}: no trial has a score; `recipe runs --failed` says why")
    return sweep, directory


@contextmanager
def _alone(directory: Path, name: str) -> Iterator[None]:
    try:
        with claim(directory):
            yield
    except Claimed as error:
        raise UserError(f"the sweep {name} is running: {error}; wait for it, or stop it") from None


def _with(sweep: Sweep, trial: Trial) -> Sweep:
    others = [one for one in sweep.trials if one.number != trial.number]
    return replace(sweep, trials=tuple(sorted([*others, trial], key=lambda one: one.number)))


def _tried(asked: Asked, trial: Trial, study: Study | None, options: Options) -> Trial:
    prune = study.prunes(trial.number) if study else None

    def stops(found: History) -> bool:
        scores = ((one.step, asked.goal.of(one.results)) for one in found.history)
        return bool(prune and prune([(step, score) for step, score in scores if score is not None]))

    try:
        one = wanted(asked.recipe(trial.values), trial.run, options.runs_dir, options.parent)
        run = run_named(one, replace(options, prune=stops if prune else None))
        # The scores are there again after a restart, and say the same.
        pruned = bool(prune and run.read().ended_early and prune(history(run, asked.goal)))
        if not pruned and not is_scored(run):
            score_finished(run, options)
        found = judged(trial, run, asked.goal, pruned=pruned)
    except (UserError, Failure) as error:
        options.say(f"trial {trial.number} failed: {error}")
        return replace(trial, state="failed", note=str(error).splitlines()[0])
    score = "no score" if found.score is None else f"{asked.goal.metric} = {found.score:.5g}"
    options.say(f"trial {trial.number}: {found.state}, {score}")
    return found


def _concluded(sweep: Sweep, study: Study | None, options: Options) -> Sweep:
    sweep = concluded(sweep, options.runs_dir)
    if study:
        return replace(
            sweep, importance=study.importance(), importance_by="PED-ANOVA over the trials that ended (Optuna)"
        )
    text = "the share of the scores' variance that each field explains by itself, over the full grid (ANOVA)"
    return replace(sweep, importance=main_effects(sweep), importance_by=text)


def _leave(sweep: Sweep, asked: Asked, directory: Path, options: Options) -> None:
    write_typed(directory / "sweep.json", sweep)
    curves = {
        one.run: history(run, asked.goal)
        for one in sweep.trials
        if (run := Run(options.runs_dir.resolve() / one.run)).path.is_dir() and one.state in ("succeeded", "pruned")
    }
    write_text(directory / "sweep.html", html(sweep, curves))
    best = next((one for one in sweep.trials if one.number == sweep.best), None)
    if best:
        # As the trial had it, under a name of its own.
        given = [*asked.loaded.overrides, *overrides(best.values), f"name={asked.name[:75]}-best"]
        loaded = load_text(asked.loaded.source, asked.loaded.path, given)
        write_text(directory / "best.yaml", copied(loaded, directory / "best.yaml"))


def report(sweep: Sweep, directory: Path) -> str:
    """What a sweep found, for a terminal."""
    parts = [table(rows(sweep))]
    if sweep.importance:
        shares = sorted(sweep.importance.items(), key=lambda pair: -pair[1])
        shown = [("field", "importance"), *((field, f"{share:.2f}") for field, share in shares)]
        parts.append(f"{sweep.importance_by}\n{table(shown)}")
    best = next(one for one in sweep.trials if one.number == sweep.best)
    parts.append(
        f"best: trial {best.number} ({told(best.values)}), {sweep.objective.metric} = {best.score:.5g}\n"
        f"its recipe: {directory / 'best.yaml'}"
    )
    return "\n\n".join(parts)


def shown(points: Sequence[Values], asked: Asked) -> str:
    """What would be tried, for `--dry-run`."""
    if not asked.search:
        return "\n".join(f"{_name(asked, number)}: {told(values)}" for number, values in enumerate(points, 1))
    fields = [*(f"{one.field}: one of {list(one.values)}" for one in asked.grids)]
    fields += [f"{one.field}: {one.low} to {one.high}{', logarithmic' if one.log else ''}" for one in asked.ranges]
    return "\n".join([f"{asked.search.trials} trials ({asked.search.sampler}, {asked.search.pruner} pruner)", *fields])
