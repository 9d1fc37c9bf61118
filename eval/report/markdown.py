"""evaluation_report.md: the tables and examples of a report as text that any viewer shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.report.compare import examples, source
from eval.report.tables import Comparison, Report, comparison_rows, cost_rows, notes, summary
from eval.report.verdicts import verdicts
from eval.rows import Row

# An underscore within a word is no markup, nor is a bracket that no link follows.
MARKUP = re.compile(r"[\\`*<>|#~$!]|(?<!\w)_|_(?!\w)|\](?=[(\[:])")
MAX_TEXT = 600  # characters of a reply in an example


def markdown(report: Report) -> str:
    parts = ["# Evaluation report", "\n".join(f"- {_escape(verdict.text)}" for verdict in verdicts(report))]
    parts += [f"> {_escape(note)}" for note in notes(report)]
    parts += ["## Results", "Values with 95 % intervals.", table(summary({e.name: e.results for e in report.entries}))]
    for comparison in report.comparisons.values():
        parts += [f"## {_escape(comparison.title)}", METHOD, table(comparison_rows(comparison))]
    parts += ["## Cost", table(cost_rows(report.entries))]
    if report.differences:
        names = [e.name for e in report.entries if e.recipe]
        fields = [("field", *names), *((f, *map(str, values)) for f, values in report.differences.items())]
        parts += ["## What differs between the recipes", table(fields)]
    for comparison in report.comparisons.values():
        parts += _examples(comparison)
    return "\n\n".join(part for part in parts if part) + "\n"


METHOD = (
    "Paired on the same samples. p is two-sided, corrected by Holm for the number of metrics; "
    "a metric without its own samples is not tested."
)


def table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = [[_escape(text) for text in row] for row in rows]
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """One line, in which nothing is markup: replies may hold anything."""
    flat = " ".join(str(text).split())
    return MARKUP.sub(r"\\\g<0>", flat)


def _examples(comparison: Comparison) -> list[str]:
    first, other = comparison.first, comparison.other
    parts = []
    for metric in example_metrics(comparison):
        rows = [("sample", "difference", first.name, other.name)]
        for sample, difference, one, two in examples(metric, first, other):
            rows.append((f"{sample}: {asked(one)}", f"{difference:+.3g}", replied(one), replied(two)))
        if len(rows) > 1:
            parts += [f"### Where {_escape(other.name)} differs most: {_escape(metric)}", table(rows)]
    return parts


def example_metrics(comparison: Comparison) -> list[str]:
    """Metrics whose samples hold replies to read beside each other."""
    found = {row.metric: source(row.metric) for row in comparison.rows}
    return [metric for metric, where in found.items() if where and where.values.examples]


def asked(record: Row) -> str:
    """What a record's model was asked, shortened."""
    prompt = record.get("prompt")
    text = (
        prompt[-1]["content"] if isinstance(prompt, list) and prompt else record.get("question") or record.get("query")
    )
    return str(text or record.get("input") or "")[:200]


def replied(record: Row) -> str:
    """What a record's model answered, shortened; its losses where it only scored."""
    if "chosen_loss" in record:
        return f"chosen {record['chosen_loss']:.3f}, rejected {record['rejected_loss']:.3f}"
    text = str(record.get("output", record.get("pred", "")))
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …"
