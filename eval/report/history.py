"""Scores of a run's checkpoints: one combined score each, the best step, and when to stop early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.statistics import Measure
from recipes.formula import COMBINED as PARTS
from recipes.formula import evaluate

COMBINED = " + ".join(PARTS)
Metrics = Mapping[str, Measure]


@dataclass(frozen=True, kw_only=True)
class ScoredStep:
    """One scored checkpoint; no combined score, and not 0, where a part of the formula was not measured."""

    step: int
    combined_score: float | None
    results: Metrics


@dataclass(frozen=True, kw_only=True)
class History:
    """The content of eval_history.json.

    `best_step` has the strictly greatest combined score, so of equal ones the earliest; both are None where no step
    has a score.
    """

    best_step: int | None
    best_score: float | None
    formula: str
    history: tuple[ScoredStep, ...]


def combined_score(metrics: Metrics, formula: str = COMBINED) -> float | None:
    """One score of the metrics of a model; None, and not 0, where a part of the formula was not measured.

    Raises:
        UserError: it is no formula.
    """
    return evaluate(formula, {name: measure.value for name, measure in metrics.items() if measure.value is not None})


def history(steps: Sequence[tuple[int, Metrics]], formula: str = COMBINED) -> History:
    """The history of (step, metrics) pairs, in the order of steps; a step that stands twice counts last."""
    scored = tuple(
        ScoredStep(step=step, combined_score=combined_score(metrics, formula), results=metrics)
        for step, metrics in sorted(dict(steps).items())
    )
    good = [one for one in scored if one.combined_score is not None]
    best = max(good, key=lambda one: (one.combined_score or 0.0, -one.step), default=None)
    return History(
        best_step=best.step if best else None,
        best_score=best.combined_score if best else None,
        formula=formula,
        history=scored,
    )


def should_stop(found: History, patience: int) -> bool:
    """Whether the last `patience` scored steps all failed to be better than the best before them."""
    scores = [one.combined_score for one in found.history if one.combined_score is not None]
    return len(scores) > patience > 0 and max(scores[-patience:]) <= max(scores[:-patience])
