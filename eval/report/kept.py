"""Whether an exported model is still the model that was trained: good, not good, or not to be told.

Perplexity decides: the exported model is good where the 95 % interval of its paired change ends within the margin, a
share of the perplexity before. Every other metric can only speak against it, where the paired test shows a loss of more
than that share of its mean, after Holm's correction: the few samples of a usual recipe cannot show that a score
of replies has not changed. Where the rows have no perplexity, those metrics decide alone, by their own intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from eval.report.compare import Compared, compare
from eval.report.gate import Judged, judge
from eval.report.results import Entry

Verdict = Literal["good", "not good", "can't tell", "not verified"]
PERPLEXITY = "perplexity"
SAME_TEST = (PERPLEXITY, "test_loss")


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Before and after; `change` is the share by which it rose, with the 95 % interval of the paired change.

    n: the rows that both were asked. None for an interval of one row.
    """

    before: float
    after: float
    change: float
    ci95: tuple[float, float] | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The verdict, why, and the numbers behind it."""

    verdict: Verdict
    reason: str
    margin: float
    perplexity: Perplexity | None
    metrics: tuple[Judged, ...]


def kept(before: Entry, after: Entry, *, margin: float, seed: int = 42) -> Kept:
    """Judge an exported model beside the one that it was made of.

    Args:
        margin: the share by which perplexity may rise, and any other metric's mean may get worse.

    Raises:
        UserError: they were not measured alike.
    """
    lost = next((name for name, one in before.metrics.items() if one.value is not None and _no_number(after, name)), "")
    if lost:  # of such numbers nothing can be compared
        reason = f"{lost} was {before.value(lost):.4g} and is no number now"
        return Kept(verdict="not good", reason=reason, margin=margin, perplexity=None, metrics=())
    judged, unanswered = judge(before, after, margin=margin, seed=seed)
    others = tuple(one for one in judged if one.metric not in SAME_TEST)
    compared = next((one for one in compare(before, after, seed=seed) if one.metric == PERPLEXITY), None)
    found = _perplexity(compared) if compared else None
    verdict, reason = _of_perplexity(found, margin) if found else _of_others(others)
    worse = [one for one in others if one.state == "worse"]
    if verdict != "not good" and (unanswered or worse):
        verdict, reason = "not good", unanswered or worse[0].sentence
    return Kept(verdict=verdict, reason=reason, margin=margin, perplexity=found, metrics=others)


def _no_number(entry: Entry, metric: str) -> bool:
    return metric in entry.metrics and entry.value(metric) is None


def _perplexity(compared: Compared) -> Perplexity | None:
    """None where no row was answered by both."""
    test = compared.paired
    if test is None or compared.a is None or compared.b is None:
        return None
    ends = test.ci95 or (0.0, 0.0)
    low, change, high = (math.expm1(min(end, 700.0)) for end in (ends[0], test.difference, ends[1]))
    return Perplexity(
        before=compared.a,
        after=compared.b,
        change=change,
        ci95=(low, high) if test.ci95 else None,
        n=test.n,
    )


def _of_perplexity(found: Perplexity, margin: float) -> tuple[Verdict, str]:
    told = f"perplexity {found.before:.4g} → {found.after:.4g} ({100 * found.change:+.2g} %"
    if found.ci95 is None:
        return "can't tell", f"{told}): one row has no interval; more held-out rows would settle it"
    low, high = found.ci95
    told += f", 95 % interval {100 * low:+.2g} to {100 * high:+.2g} % over {found.n} rows)"
    if high <= margin:
        return "good", f"{told}: it rises by no more than {100 * margin:.2g} %"
    if low > margin:
        return "not good", f"{told}: it rises by more than {100 * margin:.2g} %"
    return "can't tell", f"{told}: whether it rises by more than {100 * margin:.2g} % is not shown"


def _of_others(metrics: tuple[Judged, ...]) -> tuple[Verdict, str]:
    if not metrics:
        return "can't tell", "no metric has two samples that both answered"
    for state, verdict in (("worse", "not good"), ("open", "can't tell")):
        found = next((one for one in metrics if one.state == state), None)
        if found:
            return verdict, found.sentence  # type: ignore[return-value]
    return "good", "; ".join(one.sentence for one in metrics)
