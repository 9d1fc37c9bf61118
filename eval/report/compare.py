"""Compares models on the same samples, and refuses numbers that were not measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.report.paired import OfSeeds, Paired, holm, paired, paired_seeds
from eval.report.results import Entry, Provenance, SuiteProvenance
from eval.rows import Row
from eval.suites import MODULES, Values, suite
from recipes.errors import UserError
from recipes.suites import suites_of

ALPHA = 0.05
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Source:
    """Where a metric's values per sample stand: the suites whose records may hold them, the first that do."""

    suites: tuple[str, ...]
    values: Values


def source(metric: str) -> Source | None:
    """The source of a metric's samples; None for a bare count, and for a metric of no suite that there is."""
    suites = suites_of(metric)
    found = suite(suites[0]).values(metric) if suites[0].partition(":")[0] in MODULES else None
    return Source(suites, found) if found else None


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
        """`better`, `worse`, `changed`, or `no difference shown`; `beyond seeds`, where the samples alone show one."""
        if self.paired is None or self.p_holm is None:
            return "not tested"
        if self.p_holm >= ALPHA:
            if isinstance(self.paired, OfSeeds) and (self.paired.p_samples or 0.0) < ALPHA <= (self.paired.p or 0.0):
                return "no difference beyond seeds"
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
    # A perplexity is its test loss again: two names of the same values are one test, and count once.
    names = [source(metric) or metric for metric in shared]
    p_values = {name: test.p if test else None for name, test in zip(names, tests, strict=True)}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    corrected = [adjusted[name] for name in names]
    return [
        Compared(
            metric=metric, a=a.value(metric), b=b.value(metric), paired=test, p_holm=p, unlike=reasons[metric],
            better=better(metric, a.provenance),
        )
        for metric, test, p in zip(shared, tests, corrected, strict=True)
    ]  # fmt: skip


def better(metric: str, provenance: Provenance) -> Better:
    """Which way is better: as the metric's suite says, and in lm-eval's, as the task that was asked said."""
    found = source(metric)
    if found is None:
        return "neither"
    suites = (provenance.suites.get(name) for name in found.suites)
    lower = any(metric in suite.settings.get("lower_is_better", ()) for suite in suites if suite)
    return "lower" if lower else found.values.better


def unlike(metric: str, a: Entry, b: Entry) -> tuple[str, ...]:
    """What makes a metric of two models incomparable, in words."""
    one, other = a.provenance, b.provenance
    pairs = _measured(metric, one, other)
    reasons = []
    for name, beside in pairs:
        x, y = one.suites[name], other.suites[beside]
        # Another suite's settings are of its own requests; what the two ask alike follows from the samples.
        reasons += _suite_reasons(name, x, y) if name == beside else _data_reasons(f"{name} and {beside}", x, y)
    implementations = a.metrics[metric].implementation, b.metrics[metric].implementation
    if implementations[0] != implementations[1]:
        reasons.append(f"{metric} has implementation {implementations[0]!r} and {implementations[1]!r}")
    first = pairs[0] if pairs else ("", "")
    engines = one.engine_of(first[0]), other.engine_of(first[1])
    return (*reasons, *_model_reasons(one, other), *_engine_reasons(*engines))


def _measured(metric: str, a: Provenance, b: Provenance) -> list[tuple[str, str]]:
    """The suites that measured a metric on each side: those that both ran, else each of a's beside each of b's."""
    found = source(metric)
    suites = found.suites if found else (metric.partition(".")[0],)
    pairs = [(x, y) for x in suites if x in a.suites for y in suites if y in b.suites]
    return [(x, y) for x, y in pairs if x == y] or pairs


def _data_reasons(name: str, x: SuiteProvenance, y: SuiteProvenance) -> list[str]:
    if x.data.get("used", x.data.get("hash")) == y.data.get("used", y.data.get("hash")):
        return []
    return [f"{name}: the samples differ ({x.data.get('path')} and {y.data.get('path')})"]


def _suite_reasons(name: str, x: SuiteProvenance, y: SuiteProvenance) -> list[str]:
    reasons = _data_reasons(name, x, y)
    for key in sorted(x.settings.keys() | y.settings.keys()):
        one, other = x.settings.get(key), y.settings.get(key)
        if one != other:
            reasons.append(f"{name}: {key} is {one!r} and {other!r}")
    return reasons


def _model_reasons(x: Provenance, y: Provenance) -> list[str]:
    reasons = []
    if x.model.tokenizer != y.model.tokenizer:
        reasons.append("the tokenizer differs: another tokenizer, another task")
    if x.model.template != y.model.template:
        reasons.append("the template differs: another template, another task")
    return reasons


def _engine_reasons(x: Mapping[str, Any], y: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {x.get(key)!r} and {y.get(key)!r}"
        for key in ("engine", "dtype", "device", "torch", "transformers", "vllm")
        if x.get(key) != y.get(key)
    ]


def _paired(metric: str, a: Entry, b: Entry, seed: int) -> Paired | None:
    found = source(metric)
    if found is None:
        return None
    sides = [[samples(metric, one) for one in entry.members or (entry,)] for entry in (a, b)]
    everyone = [records for side in sides for records in side]
    ids = [name for name in everyone[0] if all(name in records for records in everyone)]
    if not ids:
        return None
    weights = None
    if found.values.weight:
        weights = [float(everyone[0][name][found.values.weight]) for name in ids]
        if any(weights != [float(records[name][found.values.weight]) for name in ids] for records in everyone):
            return None  # other tokens: a loss per token of the one is not one of the other
    one, other = ([[float(records[name][found.values.key]) for name in ids] for records in side] for side in sides)
    if len(everyone) > 2:
        return paired_seeds(one, other, weights, trained=(not a.is_base, not b.is_base), seed=seed)
    return paired(one[0], other[0], weights, seed)


def samples(metric: str, entry: Entry) -> dict[str, Row]:
    """The answered records behind a metric, by sample id."""
    found = source(metric)
    if found is None:
        return {}
    key, subset = found.values.key, found.values.subset
    by_suite = (
        {
            r["id"]: r
            for r in entry.records.get(name, ())
            if "error" not in r and (not subset or r.get("subset") == subset) and r.get(key) is not None
        }
        for name in found.suites
    )
    return next(filter(None, by_suite), {})


def examples(metric: str, a: Entry, b: Entry) -> list[tuple[str, float, Row, Row]]:
    """The samples on which two models differ: (id, b − a, a's record, b's record), b's best first."""
    found = source(metric)
    if found is None:
        return []
    sign = -1 if better(metric, a.provenance) == "lower" else 1
    key, one, other = found.values.key, samples(metric, a), samples(metric, b)
    both = [(n, float(other[n][key]) - float(one[n][key]), one[n], other[n]) for n in one if n in other]
    return sorted((item for item in both if item[1]), key=lambda item: -sign * item[1])


def recipe_differences(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Recipe fields, dotted, in which runs differ, with each run's value."""
    flat = [_flat(entry.recipe) for entry in entries if entry.recipe]
    names = sorted({name for recipe in flat for name in recipe})
    return {n: [r.get(n) for r in flat] for n in names if len({repr(r.get(n)) for r in flat}) > 1}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {n: v for key, inner in value.items() for n, v in _flat(inner, f"{prefix}.{key}" if prefix else key).items()}
