"""What is shown of results, as tables, values and sentences, for the terminal and for the files of report_files.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.report.compare import Better, Compared, better, compare, recipe_differences
from eval.report.curves import Training
from eval.report.ranking import Ranking, rankings
from eval.report.results import Entry, Results
from eval.report.seeds import groups, spread, units
from eval.rows import Row
from eval.statistics import Measure
from eval.suites.lm_eval import LOSSES
from recipes.errors import UserError
from recipes.typed import to_json

Unlike = Literal["refuse", "show", "leave_out"]

ARROWS: dict[Better, str] = {"lower": "↓", "higher": "↑", "neither": ""}
SHOWN_SAMPLES = 20  # of generation samples in evaluation_results.json


def cell(measure: Measure | None) -> str:
    """`15.89 [12.98, 19.53]`, with failures where there are any; `-` for nothing."""
    if not measure:
        return "-"
    shown = number(measure.value)
    if measure.ci95:
        shown += f" [{number(measure.ci95[0])}, {number(measure.ci95[1])}]"
    return f"{shown} ({measure.failures} failed)" if measure.failures else shown


def number(value: float | None) -> str:
    """Four significant figures, and whole numbers whole."""
    if value is None:
        return "-"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e9 else f"{value:#.4g}".rstrip(".")


def label(metric: str, side: Better) -> str:
    """`perplexity ↓`: a metric with an arrow to its better side; without one where neither is known to be better."""
    return f"{metric} {ARROWS[side]}".rstrip()


def sides(models: Iterable[Results]) -> dict[str, Better]:
    """Every metric of some models, and which way is better, by the first that has it."""
    found: dict[str, Better] = {}
    for model in models:
        found |= {name: better(name, model.provenance) for name in model.metrics if name not in found}
    return found


def summary(models: Mapping[str, Results]) -> list[tuple[str, ...]]:
    """A table of each model's metrics: metrics down, models across, then n; the first row is the header."""
    rows: list[tuple[str, ...]] = [("metric", *models, "n")]
    for metric, side in sides(models.values()).items():
        found = [model.metrics.get(metric) for model in models.values()]
        counts = dict.fromkeys(str(m.n) for m in found if m)
        rows.append((label(metric, side), *(cell(m) for m in found), "/".join(counts)))
    return rows


# Field of evaluation_results.json: metric id.
FIELDS = {
    "perplexity": "perplexity",
    "test_loss": "test_loss",
    "preference_accuracy": "preference.accuracy",
    "preference_correct": "preference.correct",
    "preference_total": "preference.total",
    "avg_chosen_loss": "preference.avg_chosen_loss",
    "avg_rejected_loss": "preference.avg_rejected_loss",
    "loss_margin": "preference.margin",
}


def evaluation_results(entries: Sequence[Entry]) -> dict[str, Any]:
    """By name a flat object of each model: null where a run or a suite does not say, `metrics`, `provenance`."""
    return {
        entry.name: {
            "model_name": entry.name,
            "model_path": entry.provenance.model.path,
            **entry.training.figures(),
            **{field: entry.value(metric) for field, metric in FIELDS.items()},
            "generation_samples": [_sample(r) for r in entry.records.get("generation", [])[:SHOWN_SAMPLES]],
            "metrics": to_json(entry.metrics),
            "provenance": to_json(entry.provenance),
        }
        for entry in entries
    }


def _sample(record: Row) -> dict[str, Any]:
    """A reply beside its prompt, both as text; of several turns, each behind its role."""
    turns = record.get("prompt") or []
    said = [turn["content"] for turn in turns] if len(turns) == 1 else [f"{t['role']}: {t['content']}" for t in turns]
    return {
        "prompt": "\n\n".join(said),
        "response": record.get("output"),
        "reference": record.get("reference"),
        "held_out": record.get("held_out"),
        **({"error": record["error"]} if "error" in record else {}),
    }


@dataclass(frozen=True)
class Report:
    """All that a report shows: entries beside another by name in `comparisons`, or why not in `left_out`."""

    entries: tuple[Entry, ...]
    comparisons: dict[str, Comparison]
    differences: dict[str, list[Any]]
    left_out: dict[str, str]
    rankings: tuple[Ranking, ...] = ()
    groups: tuple[Entry, ...] = ()  # of models that differ in the training seed alone; compared in their place

    @property
    def unlike(self) -> list[str]:
        found = (reason for one in self.comparisons.values() for row in one.rows for reason in row.unlike)
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Comparison:
    """An entry beside the one that it can be compared with."""

    first: Entry
    other: Entry
    rows: list[Compared]

    @property
    def title(self) -> str:
        return f"{self.other.name} against {self.first.name}"


def make_report(entries: Sequence[Entry], *, unlike: Unlike = "refuse", seed: int = 42) -> Report:
    """Compare every entry with the first, or with what it can be compared with: its own base, or another before it.

    Models that differ in the training seed alone are compared as one.

    Args:
        unlike: what becomes of entries that were measured like none of these: an error, a comparison that says so, or
            no comparison.

    Raises:
        UserError: `unlike` is refuse, and some are; or they share no metric with any.
    """
    comparisons: dict[str, Comparison] = {}
    left_out: dict[str, str] = {}
    compared = units(entries)
    for place, entry in enumerate(compared[1:], 1):
        try:
            comparisons[entry.name] = _compared(entry, compared[:place], unlike == "show", seed)
        except UserError as error:
            if entry.is_base:
                continue  # it is there for its own run
            if unlike != "leave_out":
                raise
            left_out[entry.name] = str(error)
    ranked = tuple(rankings(compared, seed))
    differing = recipe_differences(entries)
    return Report(tuple(entries), comparisons, differing, left_out, ranked, tuple(groups(entries)))


def _compared(entry: Entry, before: Sequence[Entry], allow_unlike: bool, seed: int) -> Comparison:
    """Beside the first that was measured alike: the first of all, the nearest base, the nearest run.

    Raises:
        UserError: there is none; the reason is that of the first that shares a metric at all.
    """
    nearest = before[:0:-1]
    candidates = [before[0], *sorted(nearest, key=lambda one: not one.is_base)]
    candidates.sort(key=lambda one: not one.metrics.keys() & entry.metrics.keys())
    errors = []
    for one in candidates:
        try:
            return Comparison(one, entry, compare(one, entry, allow_unlike=allow_unlike, seed=seed))
        except UserError as error:
            errors.append(error)
    raise errors[0]


def comparison_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A table of one comparison; the first row is the header."""
    names = comparison.first.name, comparison.other.name
    header = ("metric", "verdict", *names, "difference", "p (Holm)", "better / worse / equal")
    table: list[tuple[str, ...]] = [header]
    for row in comparison.rows:
        test = row.paired
        table.append((
            label(row.metric, row.better),
            row.verdict + (" (measured unlike)" if row.unlike else ""),
            number(row.a),
            number(row.b),
            _difference(row),
            "-" if row.p_holm is None else f"{row.p_holm:.2g}",
            "-" if test is None else f"{_moved(row)[0]} / {_moved(row)[1]} / {test.ties}",
        ))  # fmt: skip
    return table


def _difference(row: Compared) -> str:
    test = row.paired
    if test is None:
        return "-"
    shown = f"{test.difference:+.4g}"
    if test.ci95:
        shown += f" [{test.ci95[0]:+.4g}, {test.ci95[1]:+.4g}]"
    # The test of a perplexity is on its logarithm, the loss per token (lm-eval's: per word or byte).
    name = row.metric.rpartition(".")[2].partition(",")[0]
    return f"{shown} nats" if name in LOSSES else shown


def seed_rows(group: Entry) -> list[tuple[str, ...]]:
    """A table of a group's models by seed, their mean, and the standard deviation between them."""
    table: list[tuple[str, ...]] = [("metric", *(f"seed {one.seed}" for one in group.members), "mean", "SD of seeds")]
    for metric, side in sides([group.results]).items():
        values = (one.value(metric) for one in (*group.members, group))
        table.append((label(metric, side), *map(number, values), number(spread(metric, group))))
    return table


def _moved(row: Compared) -> tuple[int, int]:
    """Samples that got better, and worse."""
    assert row.paired is not None
    pair = row.paired.wins, row.paired.losses
    return (pair[1], pair[0]) if row.better == "lower" else pair


def cost_rows(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """What each model cost: training time, memory, parameters, and the time of its evaluation."""
    head = (
        "model", "training", "steps", "tokens/s", "with loss", "MFU", "peak memory", "trained parameters", "evaluation",
    )  # fmt: skip
    table: list[tuple[str, ...]] = [head]
    for entry in entries:
        t = entry.training
        evaluated = sum(suite.seconds for suite in entry.provenance.suites.values())
        table.append((
            entry.name,
            "-" if t.seconds is None else f"{t.seconds:.0f} s",
            number(t.total_steps),
            "-" if t.tokens_per_s is None else f"{t.tokens_per_s:,.0f}",
            "-" if t.supervised_tokens_per_s is None else f"{t.supervised_tokens_per_s:,.0f}",
            "-" if t.mfu is None else f"{t.mfu:.0%}",
            _memory(t),
            "-" if t.trained_parameters is None else f"{t.trained_parameters:,}",
            f"{evaluated:.0f} s",
        ))  # fmt: skip
    return table


def _memory(training: Training) -> str:
    expected = "" if training.expected_memory_gb is None else f" ({training.expected_memory_gb:.1f} expected)"
    return "-" if training.peak_memory_gb is None else f"{training.peak_memory_gb:.2f} GB{expected}"


def notes(report: Report) -> list[str]:
    """What a reader must know beside the tables: unlike numbers, over-fitting, failures."""
    found = [f"Not measured alike: {reason}." for reason in report.unlike]
    found += [f"Not compared: {reason}." for reasons in report.left_out.values() for reason in reasons.splitlines()]
    for entry in report.entries:
        step = entry.training.overfits_from
        if step is not None:
            found.append(f"{entry.name} over-fits: its evaluation loss was best at step {step} and rose after it.")
        if entry.training.not_finite:
            found.append(
                f"{entry.name}: {entry.training.not_finite} losses or rewards are not finite; no curve holds them."
            )
        failed = {name: measure.failures for name, measure in entry.metrics.items() if measure.failures}
        if failed:
            most = max(failed.values())
            found.append(
                f"{entry.name}: up to {most} samples have no answer; they are in no number of {', '.join(failed)}."
            )
    return found
