"""Results as an evaluation leaves them, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.report.results import Provenance, Results
from eval.statistics import Measure
from recipes.typed import from_json


def measure(value: float | None, **fields: Any) -> Measure:
    given = {"n": 26, "failures": 0, "se": None, "ci95": None, "implementation": "x"} | fields
    return Measure(value=value, **given)


def provenance(name: str = "tuned", suites: tuple[str, ...] = ("perplexity",), n: int = 26) -> dict[str, Any]:
    """JSON values, to be changed by a test."""
    data = {"path": "/data/rows.jsonl", "hash": "d", "used": "u"}
    return {
        "name": name,
        "model": {"path": f"/models/{name}", "base": None, "hash": name, "tokenizer": "t", "template": "c"},
        "engine": {"engine": "transformers", "dtype": "float32", "device": "cpu", "torch": "2", "transformers": "5"},
        "seed": 42,
        "suites": {suite: {"data": dict(data), "settings": {"n": n}, "seconds": 1.5} for suite in suites},
        "versions": {"python": "3.11"},
        "run": {},
    }


def results(metrics: Mapping[str, Measure], about: dict[str, Any] | None = None) -> Results:
    return Results(metrics=metrics, provenance=from_json(Provenance, about or provenance()))


def perplexity(value: float | None) -> Results:
    return results({"perplexity": measure(value)})
