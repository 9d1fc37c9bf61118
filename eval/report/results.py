"""Reads what the worker left: one evaluated model with its numbers, its records and what its run says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.report.curves import Training
from eval.rows import read_jsonl
from recipes.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One evaluated model.

    Args:
        name: as it is shown.
        results: the content of results.json.
        records: the lines of each `<suite>.jsonl`, by suite.
        training: figures of the run that made it; empty for a base model.
        recipe: the resolved recipe, nested, for what differs between runs.
    """

    name: str
    results: dict[str, Any]
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        return dict(self.results["metrics"])

    @property
    def provenance(self) -> dict[str, Any]:
        return dict(self.results["provenance"])

    def value(self, metric: str) -> float | None:
        found = self.metrics.get(metric)
        return found["value"] if found else None


def read_entry(
    directory: Path, name: str, training: Training | None = None, recipe: dict[str, Any] | None = None
) -> Entry:
    """The entry in an evaluation's output directory.

    Raises:
        UserError: there are no results, or they are damaged.
    """
    path = directory / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        suites = list(results["provenance"]["suites"])
    except OSError:
        raise UserError(f"{path}: no results; run `recipe eval` first") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not an evaluation's results") from None
    files = {suite: directory / f"{suite}.jsonl" for suite in suites}
    records = {suite: read_jsonl(file) for suite, file in files.items() if file.is_file()}
    return Entry(name=name, results=results, records=records, training=training or Training(), recipe=recipe or {})
