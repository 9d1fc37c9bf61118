"""evaluation_report.md: the tables and examples of a report as text that any viewer shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.report.replies import Shown, cut, generated, shown
from eval.report.results import Entry
from eval.report.tables import Report, comparison_rows, cost_rows, notes, seed_rows, summary
from eval.report.verdicts import verdicts

# An underscore within a word is no markup, nor is a bracket that no link follows.
MARKUP = re.compile(r"[\\`*<>|#~$!]|(?<!\w)_|_(?!\w)|\](?=[(\[:])")
EXAMPLES = 3  # at each end of a metric, and replies; report.html has more
MAX_TEXT = 600  # characters of a reply in an example


def markdown(report: Report) -> str:
    parts = ["# Evaluation report", "\n".join(f"- {escaped(verdict.text)}" for verdict in verdicts(report))]
    parts += [f"> {escaped(note)}" for note in notes(report)]
    for comparison in report.comparisons.values():
        parts += [f"## {escaped(comparison.title)}", METHOD, table(comparison_rows(comparison))]
    for group in report.groups:
        parts += [f"## {escaped(seeds_title(group))}", SEEDS, table(seed_rows(group))]
    parts += ["## Results", "Values with 95 % intervals.", table(summary({e.name: e.results for e in report.entries}))]
    parts += ["## Cost", table(cost_rows(report.entries))]
    if report.differences:
        names = [e.name for e in report.entries if e.recipe]
        fields = [("field", *names), *((f, *map(str, values)) for f, values in report.differences.items())]
        parts += ["## What differs between the recipes", table(fields)]
    for comparison in report.comparisons.values():
        parts += [part for found in shown(comparison, EXAMPLES) for part in _examples(found)]
    parts += [part for found in generated(report, EXAMPLES) for part in _examples(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


METHOD = (
    "Paired on the same samples. p is two-sided, corrected by Holm for the number of metrics; "
    "a metric without its own samples is not tested."
)


SEEDS = (
    "One training with several seeds. Its models are compared as one: a difference counts that is larger than what the "
    "seeds do among themselves, by a t test over seeds and samples."
)


def seeds_title(group: Entry) -> str:
    return f"Training seeds of {group.name}"


def table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = [[escaped(text) for text in row] for row in rows]
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """One line, in which nothing is markup: replies may hold anything."""
    flat = " ".join(str(text).split())
    return MARKUP.sub(r"\\\g<0>", flat)


def _examples(shown: Shown) -> list[str]:
    names = [name for name, _ in shown.examples[0].replies]
    compared = shown.examples[0].difference is not None
    rows = [("sample", *(["difference"] if compared else []), *names)]
    for one in shown.examples:
        moved = [] if one.difference is None else [f"{one.difference:+.3g}"]
        rows.append((f"{one.id}: {one.asked}", *moved, *(cut(text, MAX_TEXT) for _, text in one.replies)))
    return [f"### {escaped(shown.title)}", table(rows)]
