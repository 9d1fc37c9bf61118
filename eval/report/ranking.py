"""Which of several runs ranks first, and whether its difference to the second is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.report.compare import Compared, better, compare, unlike
from eval.report.results import Entry


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The first two of `count` models that were measured alike; `row` compares the first (b) with the second (a)."""

    metric: str
    count: int
    first: Entry
    second: Entry
    row: Compared


def rankings(entries: Sequence[Entry], seed: int = 42) -> list[Ranking]:
    """One for each set of three or more models that were measured alike, two of them runs.

    They rank by the first metric with a known better side, in the order of the metrics of the set's first model.
    """
    found, left = [], list(entries)
    while left:
        head = left.pop(0)
        for metric in head.metrics:
            if better(metric, head.provenance) == "neither":
                continue
            having = [entry for entry in (head, *left) if entry.value(metric) is not None]
            alike = [entry for entry in having if not unlike(metric, head, entry)]
            if head in alike and len(alike) > 2 and sum(not entry.is_base for entry in alike) > 1:
                found.append(_ranking(metric, alike, seed))
                left = [entry for entry in left if entry not in alike]
                break
    return found


def _ranking(metric: str, alike: Sequence[Entry], seed: int) -> Ranking:
    sign = 1 if better(metric, alike[0].provenance) == "higher" else -1
    first, second = sorted(alike, key=lambda entry: -sign * (entry.value(metric) or 0.0))[:2]
    # The other metrics may have been measured otherwise: they only count for the correction.
    row = next(row for row in compare(second, first, allow_unlike=True, seed=seed) if row.metric == metric)
    return Ranking(metric=metric, count=len(alike), first=first, second=second, row=row)
