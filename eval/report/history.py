"""Scores of a run's checkpoints: one combined score each, the best step, and when to stop early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recipes.formula import COMBINED as PARTS
from recipes.formula import evaluate

COMBINED = " + ".join(PARTS)
History = dict[str, Any]  # the content of eval_history.json


def combined_score(results: dict[str, Any], formula: str = COMBINED) -> float | None:
    """One score of a results.json; None, and not 0, where a part of the formula was not measured.

    Raises:
        UserError: it is no formula.
    """
    return evaluate(formula, results["metrics"])


def history(steps: Sequence[tuple[int, dict[str, Any]]], formula: str = COMBINED) -> History:
    """eval_history.json of (step, results.json) pairs, in the order of steps; a step that stands twice counts last.

    `best_step` has the strictly greatest combined score, so of equal ones the earliest; both are None where no step
    has a score.
    """
    ordered = sorted(dict(steps).items())
    entries = [
        {"step": step, "combined_score": combined_score(results, formula), "results": results["metrics"]}
        for step, results in ordered
    ]
    best: dict[str, Any] = {"step": None, "combined_score": None}
    for entry in entries:
        score = entry["combined_score"]
        if score is not None and (best["combined_score"] is None or score > best["combined_score"]):
            best = entry
    return {
        "best_step": best["step"], "best_score": best["combined_score"], "formula": formula, "history": entries,
    }  # fmt: skip


def should_stop(found: History, patience: int) -> bool:
    """Whether the last `patience` scored steps all failed to be better than the best before them."""
    scores = [entry["combined_score"] for entry in found["history"] if entry["combined_score"] is not None]
    return len(scores) > patience > 0 and max(scores[-patience:]) <= max(scores[:-patience])
