"""The first sentences of a report: which model, by how much, how sure, at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.report.compare import Compared, better, source
from eval.report.curves import Training
from eval.report.paired import OfSeeds
from eval.report.ranking import Ranking
from eval.report.results import Entry
from eval.report.tables import Comparison, Report, number

Kind = Literal["ranking", "better", "mixed", "none shown", "worse", "not tested"]
ORDER: tuple[Kind, ...] = ("ranking", "better", "mixed", "none shown", "worse", "not tested")
NAMED = 3  # metrics in a sentence; the table holds the others
UNANSWERED = 0.01  # a share of samples without an answer that exceeds the other model's by more than this is said


@dataclass(frozen=True)
class Verdict:
    """One sentence, and what it says: plain text that a page must escape, for names may hold anything."""

    kind: Kind
    text: str


def verdicts(report: Report) -> list[Verdict]:
    """What a report answers, a sentence a comparison, best first; before them who ranks first of several runs.

    Only metrics that were tested and whose better side is known speak; a loss and its perplexity are one test and speak
    once. Pure: the same report gives the same sentences.
    """
    if not report.comparisons:
        return [_alone(report)]
    found = [(_verdict(comparison), comparison) for comparison in report.comparisons.values()]
    found.sort(key=lambda pair: (ORDER.index(pair[0].kind), -_lead(pair[1]), -_gain(pair[1])))
    return [*map(_first, report.rankings), *(verdict for verdict, _ in found)]


def _alone(report: Report) -> Verdict:
    if len(report.entries) != 1 and not (
        len(report.groups) == 1 and len(report.groups[0].members) == len(report.entries)
    ):
        return Verdict("not tested", f"None of the {len(report.entries)} models can be compared with another.")
    entry = (*report.groups, *report.entries)[0]
    known = [name for name, measure in entry.metrics.items() if measure.value is not None and _directed(name, entry)]
    told = f": {known[0]} {number(entry.value(known[0]))}" if known else ""
    return Verdict("not tested", f"{entry.name} was measured alone{told}; nothing says whether another is better.")


def _directed(metric: str, entry: Entry) -> bool:
    return better(metric, entry.provenance) != "neither"


def spoken(comparison: Comparison) -> list[Compared]:
    """The rows that a verdict rests on: tested, with a known better side, each test once, the surest first."""
    by_test: dict[object, Compared] = {}
    for row in comparison.rows:
        if row.better != "neither" and row.p_holm is not None:
            by_test.setdefault(source(row.metric) or row.metric, row)
    return sorted(by_test.values(), key=lambda row: row.p_holm or 0.0)


def _lead(comparison: Comparison) -> int:
    found = [row.verdict for row in spoken(comparison)]
    return found.count("better") - found.count("worse")


def _gain(comparison: Comparison) -> float:
    """The share by which the first metric that speaks got better; runs beside one base have the same."""
    spoke = spoken(comparison)
    for row in comparison.rows:
        if row in spoke and row.a and row.b is not None:
            return (row.b - row.a) / abs(row.a) * (1 if row.better == "higher" else -1)
    return 0.0


def _verdict(comparison: Comparison) -> Verdict:
    rows, other, first = spoken(comparison), comparison.other.name, comparison.first.name
    if not rows:
        reason = "no metric with a known better side has samples that both answered"
        return Verdict("not tested", f"{other} is not tested against {first}: {reason}{_end(comparison)}")
    good, bad = ([row for row in rows if row.verdict == kind] for kind in ("better", "worse"))
    kind: Kind = "mixed" if good and bad else "better" if good else "worse" if bad else "none shown"
    equal = len(rows) - len(good) - len(bad)
    rest = f"; no difference is shown on {_count(equal, 'other metric')}" if equal else ""
    if kind == "none shown":
        rest = f", nor on {_count(equal - 1, 'other metric')}" if equal > 1 else ""
        seeds = " beyond what training seeds do" if rows[0].verdict == "no difference beyond seeds" else ""
        said = f"No difference between {other} and {first} is shown{seeds}: {_change(rows[0])}{rest}"
    elif kind == "mixed":
        said = f"{other} is better than {first} on some metrics, {_changes(good)}, and worse on others, {_changes(bad)}"
        said += rest
    else:
        said = f"{other} is {kind} than {first}: {_changes(good or bad)}{rest}"
    return Verdict(kind, said + _unanswered(comparison, rows) + _end(comparison))


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _changes(rows: Sequence[Compared]) -> str:
    more = f" and {_count(len(rows) - NAMED, 'metric')} more" if len(rows) > NAMED else ""
    return ", ".join(map(_change, rows[:NAMED])) + more


def _change(row: Compared) -> str:
    """`perplexity 12.3 → 9.8 (−20 %, p = 0.003 over 26 samples)`."""
    values = "" if row.a is None or row.b is None else " " + " → ".join(_apart(row.a, row.b))
    return f"{row.metric}{values} ({_percent(row)}{_sure(row)})"


def _apart(a: float, b: float) -> tuple[str, str]:
    """Two values in as few digits, from three, as tell them apart."""
    for digits in range(3, 7):
        shown = [f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}" for value in (a, b)]
        if shown[0] != shown[1]:
            break
    return shown[0], shown[1]


def _percent(row: Compared) -> str:
    # Of values that may be negative, such as a margin, a share of the first says nothing.
    if row.a is None or row.b is None or row.a <= 0 or row.b <= 0 or row.a == row.b:
        return ""
    change = 100 * (row.b - row.a) / row.a
    shown = f"{change:+.0f}" if abs(change) >= 10 else f"{change:+.2g}"
    return f"{shown.replace('-', '−')} %, "


def _sure(row: Compared) -> str:
    assert row.paired is not None and row.p_holm is not None
    p = "p < 0.0001" if row.p_holm < 1e-4 else f"p = {row.p_holm:.2g}"
    seeds = f" and {row.paired.seeds[0]} + {row.paired.seeds[1]} models" if isinstance(row.paired, OfSeeds) else ""
    return f"{p} over {_count(row.paired.n, 'sample')}{seeds}"


def _unanswered(comparison: Comparison, rows: Sequence[Compared]) -> str:
    """Models are compared on what both answered: what one leaves unanswered must not be its advantage."""
    for row in rows:
        old, new = (entry.metrics[row.metric] for entry in (comparison.first, comparison.other))
        shares = [one.failures / max(1, one.n + one.failures) for one in (old, new)]
        if shares[1] - shares[0] > UNANSWERED:
            return (
                f"; it leaves {new.failures} of {new.n + new.failures} samples without an answer, "
                f"{comparison.first.name} {old.failures}"
            )
    return ""


def _end(comparison: Comparison) -> str:
    doubt = "; they were not measured alike" if any(row.unlike for row in comparison.rows) else ""
    return f"{_cost(comparison.other.training)}{doubt}."


def _cost(training: Training) -> str:
    found = []
    if training.seconds is not None:
        found.append(f"{_time(training.seconds)} of training")
    if training.peak_memory_gb is not None:
        found.append(f"{training.peak_memory_gb:.2g} GB of memory")
    return f", for {' and '.join(found)}" if found else ""


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _first(ranking: Ranking) -> Verdict:
    metric, first, second, row = ranking.metric, ranking.first, ranking.second, ranking.row
    values = _apart(first.value(metric) or 0.0, second.value(metric) or 0.0)
    told = f"By {metric}, {first.name} ({values[0]}) ranks first of {ranking.count} models, before {second.name}"
    shown = {
        "better": "the difference between the two is shown",
        "worse": f"yet on the samples that both answered, {second.name} is better",
        "not tested": "the difference between the two is not tested",
    }.get(row.verdict, "the difference between the two is not shown")
    sure = "" if row.verdict == "not tested" else f" ({_sure(row)})"
    return Verdict("ranking", f"{told} ({values[1]}); {shown}{sure}.")
