"""What a sweep leaves: sweep.json with its trials, best.yaml, a table, and which field mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from eval.report.compare import better, source, unlike
from eval.report.history import Metrics, combined_score
from eval.report.results import Entry, read_results
from recipes import Recipe, UserError, did_you_mean
from recipes.formula import default_formula, names
from recipes.suites import suite_id, suites_of
from recipes.typed import read_typed
from runner.runs.rundir import Run
from runner.scoring.history import run_history
from runner.sweeping.values import Grid, Range, shown

State = Literal["succeeded", "pruned", "failed", "open"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What trials are chosen by: a metric, or a formula over metrics (the recipe's combined score); higher or lower."""

    metric: str
    formula: bool
    better: Literal["higher", "lower"]

    def of(self, metrics: Metrics) -> float | None:
        """The score of a model; None where it was not measured."""
        if self.formula:
            return combined_score(metrics, self.metric)
        found = metrics.get(self.metric)
        return found.value if found else None

    def order(self, score: float) -> float:
        """What is the least of the best."""
        return -score if self.better == "higher" else score


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: its values, its run, and what became of it.

    score: of `model/`; of a pruned one, of its last scored checkpoint. unlike: why its score is beside no other's.
    """

    number: int
    values: Mapping[str, Any]
    run: str
    state: State = "open"
    score: float | None = None
    note: str = ""
    unlike: str = ""


@dataclass(frozen=True, kw_only=True)
class Search:
    """How trials are chosen where it is not by a grid; see runner/sweeping/search.py."""

    trials: int
    sampler: str
    pruner: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The content of sweep.json."""

    recipe: str
    base: Mapping[str, Any]  # the resolved recipe, by leaf, before any value is put in
    objective: Objective
    grids: tuple[Grid, ...]
    ranges: tuple[Range, ...]
    search: Search | None
    trials: tuple[Trial, ...] = ()
    best: int | None = None
    importance: Mapping[str, float] | None = None
    importance_by: str = ""

    @property
    def fields(self) -> list[str]:
        return [*(one.field for one in self.grids), *(one.field for one in self.ranges)]


def objective(recipe: Recipe, metric: str | None) -> Objective:
    """What a sweep of this recipe goes by.

    Raises:
        UserError: its suites do not measure that, or nobody knows which way is better.
    """
    suites = [suite_id(suite) for suite in recipe.eval.suites]
    formula = recipe.eval.combined_score or default_formula(recipe.eval.suites)
    wanted = [metric] if metric else names(formula)
    for name in wanted:
        if not set(suites_of(name)) & set(suites):
            if metric and source(name) is None:
                raise UserError(f"--metric {name}: no suite measures that{did_you_mean(name, suites)}")
            what = f"--metric {name}" if metric else f"the combined score {formula!r}"
            more = did_you_mean(suites_of(name)[0], suites) if metric else "; name a metric with --metric"
            text = f"{what} is measured by the suite {suites_of(name)[0]}, which eval.suites does not have"
            raise UserError(f"{text}: {', '.join(suites) or 'it is empty'}{more}")
    if not metric:
        return Objective(metric=formula, formula=True, better="higher")
    found = source(metric)
    if found is None or found.values.better == "neither":
        raise UserError(f"--metric {metric}: nobody knows which way is better, or its suite has no such metric")
    return Objective(metric=metric, formula=False, better=found.values.better)


def judged(trial: Trial, run: Run, goal: Objective, *, pruned: bool) -> Trial:
    """A trial whose run has ended, with its score."""
    if pruned:
        scored = [score for _, score in history(run, goal)]
        return replace(trial, state="pruned", score=scored[-1] if scored else None)
    score = goal.of(read_results(run.path / "eval").metrics)
    note = "" if score is not None else f"{goal.metric} has no value"
    return replace(trial, state="succeeded" if score is not None else "failed", score=score, note=note)


def history(run: Run, goal: Objective) -> list[tuple[int, float]]:
    """The scores of a run's checkpoints by step, as far as they have one."""
    steps = run_history(run, run.recipe().recipe).history
    found = ((one.step, goal.of(one.results)) for one in steps)
    return [(step, score) for step, score in found if score is not None]


def concluded(sweep: Sweep, runs_dir: Path) -> Sweep:
    """The sweep with its best trial: of those that were measured like the first that ended, the best, the earliest."""
    ended = [one for one in sweep.trials if one.state == "succeeded"]
    if not ended:
        return replace(sweep, best=None)
    entries = {one.number: _entry(runs_dir / one.run) for one in ended}
    first = entries[ended[0].number]
    marked = tuple(
        replace(one, unlike=_unlike(sweep.objective, first, entries[one.number])) if one.number in entries else one
        for one in sweep.trials
    )
    alike = [one for one in marked if one.state == "succeeded" and not one.unlike and one.score is not None]
    best = min(alike, key=lambda one: (sweep.objective.order(one.score or 0.0), one.number), default=None)
    return replace(sweep, trials=marked, best=best.number if best else None)


def _entry(run: Path) -> Entry:
    return Entry(name=run.name, results=read_results(run / "eval"))


def _unlike(goal: Objective, first: Entry, other: Entry) -> str:
    wanted = names(goal.metric) if goal.formula else [goal.metric]
    reasons = [
        reason
        for metric in wanted
        if metric in first.metrics and metric in other.metrics
        for reason in unlike(metric, first, other)
    ]
    turned = [m for m in wanted if m in other.metrics and better(m, first.provenance) != better(m, other.provenance)]
    return "; ".join(dict.fromkeys([*reasons, *(f"{metric} has another better side" for metric in turned)]))


def main_effects(sweep: Sweep) -> dict[str, float] | None:
    """Of a full grid's scores, the share of their variance that each field explains by itself; None of half a grid.

    The first-order part of a functional ANOVA, which a full grid gives exactly: what is missing to 1 is by fields
    together.
    """
    scores = {one.number: one.score for one in sweep.trials if one.state == "succeeded" and not one.unlike}
    whole = math.prod(len(grid.values) for grid in sweep.grids)
    values = [score for score in scores.values() if score is not None]
    if len(values) != whole or whole < 2:
        return None
    middle = fmean(values)
    total = math.fsum((value - middle) ** 2 for value in values)
    if not total:
        return None
    found = {}
    for grid in sweep.grids:
        groups = [
            [scores[one.number] or 0.0 for one in sweep.trials if one.values[grid.field] == value]
            for value in grid.values
        ]
        found[grid.field] = math.fsum(len(group) * (fmean(group) - middle) ** 2 for group in groups) / total
    return found


def rows(sweep: Sweep) -> list[tuple[str, ...]]:
    """A table of the trials, the best first, those without a score last; the first row is the header."""
    head = ("trial", *sweep.fields, sweep.objective.metric, "state", "run")

    def place(one: Trial) -> tuple[bool, bool, float, int]:
        score = math.inf if one.score is None else sweep.objective.order(one.score)
        return one.state != "succeeded", bool(one.unlike), score, one.number

    table: list[tuple[str, ...]] = [head]
    for one in sorted(sweep.trials, key=place):
        state: str = "best" if one.number == sweep.best else one.state
        state += " (measured unlike)" if one.unlike else ""
        values = (shown(one.values[field]) for field in sweep.fields)
        score = "-" if one.score is None else f"{one.score:.5g}"
        table.append((str(one.number), *values, score, state, one.run))
    return table


def read(directory: Path) -> Sweep | None:
    """The sweep in a directory; None where there is none.

    Raises:
        UserError: sweep.json is damaged.
    """
    try:
        return read_typed(Sweep, directory / "sweep.json")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{directory / 'sweep.json'}: damaged: {error}; move it away, or give another --name") from None


def check_same(old: Sweep, new: Sweep, directory: Sequence[str] | Path) -> None:
    """Raises UserError where a sweep goes on that is another: only the number of trials may grow."""
    told = [
        f"  {what} {'differ' if what.endswith('s') else 'differs'}"
        for what, a, b in (
            ("the recipe", dict(old.base), dict(new.base)),
            ("the metric", old.objective, new.objective),
            ("the values", (old.grids, old.ranges), (new.grids, new.ranges)),
            ("the search", _how(old.search), _how(new.search)),
        )
        if a != b
    ]
    if told:
        raise UserError(f"{directory} is another sweep:", *told, "give another --name, or remove that directory")


def _how(search: Search | None) -> Search | None:
    return replace(search, trials=0) if search else None
