"""Compares models on the same samples, and refuses numbers that were not measured alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.report.paired import Paired, holm, paired
from eval.report.results import Entry
from recipes.errors import UserError

ALPHA = 0.05
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Source:
    """Where a metric's values per sample stand, and which way is better."""

    suites: tuple[str, ...]
    key: str
    better: Better
    weight: str = ""  # the record's field that sums are divided by
    only: Callable[[dict[str, Any]], bool] = lambda record: True


def source(metric: str) -> Source | None:
    """The source of a metric's samples; None for a bare count."""
    suite, _, name = metric.partition(".")
    if metric in ("perplexity", "test_loss"):
        return Source(("perplexity",), "nll", "lower", weight="tokens")
    if suite == "preference":
        return PREFERENCE.get(name)
    if suite == "truthfulqa":
        return TRUTHFULQA.get(name)
    if suite == "longbench":
        subset = name.partition(".")[0]
        return None if "." in name else Source(("longbench",), "score", "higher", only=lambda r: r["subset"] == subset)
    if suite == "generation":
        return Source(("generation",), name, "lower" if name == "repeated" else "neither")
    return Source((suite,), name, "higher") if suite in ("qmsum", "reference") else None


PREFERENCE = {
    "accuracy": Source(("preference",), "correct", "higher"),
    "avg_chosen_loss": Source(("preference",), "chosen_loss", "lower"),
    "avg_rejected_loss": Source(("preference",), "rejected_loss", "neither"),
    "margin": Source(("preference",), "margin", "higher"),
}
TRUTHFULQA = {
    "mc1": Source(("truthfulqa_mc", "truthfulqa"), "mc1", "higher"),
    "mc2": Source(("truthfulqa_mc", "truthfulqa"), "mc2", "higher"),
    "accuracy": Source(("truthfulqa",), "accurate", "higher"),
    "avg_max_score": Source(("truthfulqa",), "max_score", "higher"),
}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One metric of two models on the samples that both answered; `p_holm` is corrected for the metrics compared."""

    metric: str
    a: float | None
    b: float | None
    better: Better
    paired: Paired | None
    p_holm: float | None
    unlike: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `changed`, or `no difference shown`."""
        if self.paired is None or self.p_holm is None:
            return "not tested"
        if self.p_holm >= ALPHA:
            return "no difference shown"
        if self.better == "neither":
            return "changed"
        return "better" if (self.paired.difference > 0) == (self.better == "higher") else "worse"


def compare(a: Entry, b: Entry, *, allow_unlike: bool = False, seed: int = 42) -> list[Compared]:
    """Every metric that both have.

    Raises:
        UserError: some were measured differently (says which and how), unless `allow_unlike`; or they share none.
    """
    shared = [metric for metric in a.metrics if metric in b.metrics]
    if not shared:
        raise UserError(f"{a.name} and {b.name} have no metric in common; run the same suites on both")
    reasons = {metric: unlike(metric, a, b) for metric in shared}
    problems = {reason for found in reasons.values() for reason in found}
    if problems and not allow_unlike:
        raise UserError(*(f"{a.name} and {b.name} were not measured alike: {reason}" for reason in sorted(problems)))
    tests = [_paired(metric, a, b, seed) for metric in shared]
    # A perplexity is its test loss again: two names, one test.
    twice = "perplexity" in shared and "test_loss" in shared
    counted = [metric for metric in shared if not (twice and metric == "test_loss")]
    p_values = {metric: test.p if test else None for metric, test in zip(shared, tests, strict=True)}
    adjusted = dict(zip(counted, holm([p_values[metric] for metric in counted]), strict=True))
    corrected = [adjusted["perplexity" if metric not in adjusted else metric] for metric in shared]
    return [
        Compared(
            metric=metric, a=a.value(metric), b=b.value(metric), paired=test, p_holm=p, unlike=reasons[metric],
            better=found.better if (found := source(metric)) else "neither",
        )
        for metric, test, p in zip(shared, tests, corrected, strict=True)
    ]  # fmt: skip


def unlike(metric: str, a: Entry, b: Entry) -> tuple[str, ...]:
    """What makes a metric of two models incomparable, in words."""
    found = source(metric)
    suites = found.suites if found else (metric.partition(".")[0],)
    pairs = [(s, *(e.provenance["suites"].get(s) for e in (a, b))) for s in suites]
    reasons = [reason for suite, x, y in pairs if x and y for reason in _suite_reasons(suite, x, y)]
    one, other = (e.metrics[metric].get("implementation") for e in (a, b))
    if one != other:
        reasons.append(f"{metric} has implementation {one!r} and {other!r}")
    return (*reasons, *_model_reasons(a.provenance, b.provenance))


def _suite_reasons(suite: str, x: dict[str, Any], y: dict[str, Any]) -> list[str]:
    reasons = []
    if x["data"].get("used", x["data"].get("hash")) != y["data"].get("used", y["data"].get("hash")):
        reasons.append(f"{suite}: the samples differ ({x['data'].get('path')} and {y['data'].get('path')})")
    for key in sorted(x["settings"].keys() | y["settings"].keys()):
        one, other = x["settings"].get(key), y["settings"].get(key)
        if one != other:
            reasons.append(f"{suite}: {key} is {one!r} and {other!r}")
    return reasons


def _model_reasons(x: dict[str, Any], y: dict[str, Any]) -> list[str]:
    reasons = [
        f"the {part} differs: another {part}, another task"
        for part in ("tokenizer", "template")
        if x["model"][part] != y["model"][part]
    ]
    return reasons + [
        f"{key} is {x['engine'].get(key)!r} and {y['engine'].get(key)!r}"
        for key in ("engine", "dtype", "device", "torch", "transformers", "vllm")
        if x["engine"].get(key) != y["engine"].get(key)
    ]


def _paired(metric: str, a: Entry, b: Entry, seed: int) -> Paired | None:
    found = source(metric)
    if found is None:
        return None
    one, other = (samples(metric, entry) for entry in (a, b))
    ids = [name for name in one if name in other]
    if not ids:
        return None
    weights = None
    if found.weight:
        weights = [float(one[name][found.weight]) for name in ids]
        if weights != [float(other[name][found.weight]) for name in ids]:
            return None  # other tokens: a loss per token of the one is not one of the other
    values = [[_value(records[name], found.key) for name in ids] for records in (one, other)]
    return paired(values[0], values[1], weights, seed)


def samples(metric: str, entry: Entry) -> dict[str, dict[str, Any]]:
    """The answered records behind a metric, by sample id."""
    found = source(metric)
    if found is None:
        return {}
    records = next((entry.records[s] for s in found.suites if s in entry.records), [])
    wanted = [r for r in records if "error" not in r and found.only(r)]
    return {r["id"]: r for r in wanted if _value(r, found.key, None) is not None}


def _value(record: dict[str, Any], key: str, default: Any = 0.0) -> Any:
    if key == "margin":
        return record["rejected_loss"] - record["chosen_loss"]
    found = record.get(key)
    return default if found is None else float(found)


def examples(
    metric: str, a: Entry, b: Entry, count: int = 3
) -> list[tuple[str, float, dict[str, Any], dict[str, Any]]]:
    """The samples on which two models differ most: (id, b − a, a's record, b's record), b's best first."""
    found = source(metric)
    if found is None:
        return []
    one, other = samples(metric, a), samples(metric, b)
    both = [(n, _value(other[n], found.key) - _value(one[n], found.key), one[n], other[n]) for n in one if n in other]
    moved = sorted((item for item in both if item[1]), key=lambda item: -item[1])
    return moved if len(moved) <= 2 * count else moved[:count] + moved[-count:]


def recipe_differences(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Recipe fields, dotted, in which runs differ, with each run's value."""
    flat = [_flat(entry.recipe) for entry in entries if entry.recipe]
    names = sorted({name for recipe in flat for name in recipe})
    return {n: [r.get(n) for r in flat] for n in names if len({repr(r.get(n)) for r in flat}) > 1}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {n: v for key, inner in value.items() for n, v in _flat(inner, f"{prefix}.{key}" if prefix else key).items()}
