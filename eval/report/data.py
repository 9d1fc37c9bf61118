"""A report for programs: report.json holds all that report.html shows, report.csv a line for each model and metric."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from eval.report.compare import Compared
from eval.report.curves import loss_label
from eval.report.replies import generated, shown
from eval.report.results import Entry
from eval.report.seeds import spread
from eval.report.tables import Comparison, Report, notes, sides
from eval.report.verdicts import verdicts
from recipes.typed import to_json

VERSION = 1  # grows when a field is renamed or means something else; new fields leave it
COLUMNS = ("model", "metric", "better", "value", "ci_low", "ci_high", "se", "n", "failures", "implementation")


def report_json(report: Report, *, examples: int, replies: int) -> dict[str, Any]:
    """The whole report as JSON values; a number that is not finite is null, for it is no JSON.

    examples, replies: how many of each there are, as in report.html (see eval/report/replies.py); the records of all
    samples lie beside each model's results.
    """
    found = {
        "version": VERSION,
        "verdicts": verdicts(report),
        "notes": notes(report),
        "better": sides(entry.results for entry in report.entries),
        "models": {entry.name: _model(entry) for entry in report.entries},
        "comparisons": [_comparison(one, examples) for one in report.comparisons.values()],
        "rankings": [
            {"models": one.count, "first": one.first.name, "second": one.second.name, **_row(one.row)}
            for one in report.rankings
        ],
        "replies": generated(report, replies),
        "recipe_differences": report.differences,
        "recipes_of": [entry.name for entry in report.entries if entry.recipe],
        "not_compared": report.left_out,
    }
    if report.groups:
        found["seeds"] = {group.name: _seeds(group) for group in report.groups}
    finite: dict[str, Any] = _finite(to_json(found))
    return finite


def _model(entry: Entry) -> dict[str, object]:
    return {
        "metrics": entry.metrics,
        "training": {"loss": loss_label(entry.recipe), **to_json(entry.training)},
        "evaluation_seconds": sum(suite.seconds for suite in entry.provenance.suites.values()),
        "provenance": entry.provenance,
    }


def _seeds(group: Entry) -> dict[str, object]:
    """Of models that differ in the training seed alone: which, and each metric's mean and deviation between them."""
    return {
        "models": {str(one.seed): one.name for one in group.members},
        "metrics": {name: {"mean": group.value(name), "sd": spread(name, group)} for name in group.metrics},
    }


def _comparison(comparison: Comparison, count: int) -> dict[str, object]:
    return {
        "first": comparison.first.name,
        "other": comparison.other.name,
        "metrics": [_row(row) for row in comparison.rows],
        "examples": shown(comparison, count),
    }


def _row(row: Compared) -> dict[str, object]:
    return {"verdict": row.verdict, **to_json(row)}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report_csv(report: Report) -> str:
    """A header and a line for each model and metric; an empty field where there is no such number."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    better = sides(entry.results for entry in report.entries)
    for entry in report.entries:
        for name, one in entry.metrics.items():
            low, high = one.ci95 or (None, None)
            numbers = (one.value, low, high, one.se, one.n, one.failures)
            rows.writerow((entry.name, name, better[name], *numbers, one.implementation))
    return text.getvalue()
