"""Replies to read beside each other: where two models differ most, and what each says to the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.report.compare import better, examples, source
from eval.report.results import Entry
from eval.report.tables import Comparison, Report
from eval.rows import Row

MOST = 3000  # examples in a report, so that its page stays a few megabytes
EACH = 3, 50  # at each end of a metric, the fewest and the most
MAX_ASKED = 200  # characters of a prompt
GENERATION = "generation"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One sample with the replies of one model or two, by name, as they were given: a page must cut and escape them.

    difference: of the metric, the second less the first; None where none is compared. won: it is for the better.
    """

    id: str
    asked: str
    reference: str | None
    replies: tuple[tuple[str, str], ...]
    difference: float | None = None
    won: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Examples under a title; `total` is how many there are, where only some are shown."""

    title: str
    metric: str
    examples: tuple[Example, ...]
    total: int


def fitting(report: Report) -> int:
    """How many examples at each end of a metric a report has room for."""
    metrics = sum(len(_metrics(comparison)) for comparison in report.comparisons.values())
    return max(EACH[0], min(EACH[1], MOST // (2 * max(1, metrics))))


def _metrics(comparison: Comparison) -> list[str]:
    """Metrics whose samples hold replies to read."""
    found = {row.metric: source(row.metric) for row in comparison.rows}
    return [metric for metric, where in found.items() if where and where.values.examples]


def shown(comparison: Comparison, count: int) -> list[Shown]:
    """Of each metric with replies, the samples that differ most, best first: up to `count` at each end."""
    first, other, found = comparison.first, comparison.other, []
    for metric in _metrics(comparison):
        sign = -1 if better(metric, first.provenance) == "lower" else 1
        every = examples(metric, first, other)
        ends = every if len(every) <= 2 * count else every[:count] + every[-count:]
        told = tuple(
            Example(
                id=sample,
                asked=asked(one),
                reference=one.get("reference"),
                replies=((first.name, replied(one)), (other.name, replied(two))),
                difference=difference,
                won=sign * difference > 0,
            )
            for sample, difference, one, two in ends
        )
        if told:
            title = f"Where {other.name} differs most from {first.name}: {metric}"
            found.append(Shown(title=title, metric=metric, examples=told, total=len(every)))
    return found


def generated(report: Report, count: int) -> list[Shown]:
    """The replies of the suite `generation`: each model's beside those of the one that it is compared with."""
    found = []
    for entry in report.entries:
        comparison = report.comparisons.get(entry.name)
        pair = (comparison.first, entry) if comparison else (entry,)
        if not comparison and any(entry.name == one.first.name for one in report.comparisons.values()):
            continue  # its replies stand beside the others'
        told = _generated(pair)
        if told:
            title = f"Replies of {' and '.join(one.name for one in pair)}"
            found.append(Shown(title=title, metric=GENERATION, examples=tuple(told[:count]), total=len(told)))
    return found


def _generated(entries: Sequence[Entry]) -> list[Example]:
    """Samples that all were asked, by prompt: ids alone may name other prompts."""
    by_id = [{record["id"]: record for record in entry.records.get(GENERATION, [])} for entry in entries]
    own = by_id[-1]
    return [
        Example(
            id=sample,
            asked=asked(record),
            reference=record.get("reference"),
            replies=tuple((entry.name, replied(found[sample])) for entry, found in zip(entries, by_id, strict=True)),
        )
        for sample, record in own.items()
        if all(sample in found and found[sample].get("prompt") == record.get("prompt") for found in by_id)
    ]


def asked(record: Row) -> str:
    """What a record's model was asked, shortened."""
    prompt = record.get("prompt")
    text = (
        prompt[-1]["content"] if isinstance(prompt, list) and prompt else record.get("question") or record.get("query")
    )
    return str(text or record.get("input") or "")[:MAX_ASKED]


def replied(record: Row) -> str:
    """What a record's model answered; its losses where it only scored, and why there is no answer."""
    if "error" in record:
        return f"(no answer: {record['error']})"
    if "chosen_loss" in record and "rejected_loss" in record:
        return f"chosen {record['chosen_loss']:.3f}, rejected {record['rejected_loss']:.3f}"
    return str(record.get("output", record.get("pred", "")))


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + " …"
