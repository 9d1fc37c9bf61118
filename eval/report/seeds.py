"""Models that differ in the training seed alone, as one: a difference between trainings must be larger than theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import fsum, sqrt
from statistics import mean, stdev

from eval.report.compare import unlike
from eval.report.curves import Training
from eval.report.results import Entry, Results
from eval.statistics import Measure


def units(entries: Sequence[Entry]) -> list[Entry]:
    """What is compared: each model, or in the place of the first, the group of those that are alike but for the seed.

    Of two models of one training with the same seed the first is in the group; the other stands alone, as does one that
    was not measured as the first was.
    """
    found: list[list[Entry]] = []
    for entry in entries:
        home = next((group for group in found if _belongs(entry, group)), None)
        if home is None:
            found.append([entry])
        else:
            home.append(entry)
    return [_group(members) if len(members) > 1 else members[0] for members in found]


def groups(entries: Sequence[Entry]) -> list[Entry]:
    """The groups among them."""
    return [entry for entry in units(entries) if entry.members]


def _belongs(entry: Entry, group: Sequence[Entry]) -> bool:
    first = group[0]
    if not entry.trained_as or entry.trained_as != first.trained_as or entry.seed is None:
        return False
    if entry.seed in [one.seed for one in group]:
        return False
    return entry.metrics.keys() == first.metrics.keys() and not any(
        unlike(metric, first, entry) for metric in entry.metrics
    )


def _group(members: Sequence[Entry]) -> Entry:
    first = members[0]
    seconds = [one.training.seconds for one in members if one.training.seconds is not None]
    memory = [one.training.peak_memory_gb for one in members if one.training.peak_memory_gb is not None]
    return Entry(
        name=f"{_common(members)} (seeds {', '.join(str(one.seed) for one in members)})",
        results=Results(
            metrics={metric: _mean(metric, members) for metric in first.metrics},
            provenance=replace(first.provenance, name=_common(members)),
        ),
        training=Training(seconds=fsum(seconds) if seconds else None, peak_memory_gb=max(memory, default=None)),
        trained_as=first.trained_as,
        members=tuple(members),
    )


def _common(members: Sequence[Entry]) -> str:
    """What `recipe run --seeds` calls them without the seed, or all their names: another group may have the first's."""
    names = {one.name.removesuffix(f"-seed-{one.seed}") for one in members}
    return names.pop() if len(names) == 1 else " + ".join(one.name for one in members)


def _mean(metric: str, members: Sequence[Entry]) -> Measure:
    """The mean over the seeds, with its standard error by them; n and failures are those of the worst answered."""
    found = [one.metrics[metric] for one in members]
    worst = max(found, key=lambda one: one.failures)
    values = [one.value for one in found if one.value is not None]
    whole = len(values) == len(found)
    return replace(
        worst,
        value=mean(values) if whole else None,
        se=stdev(values) / sqrt(len(values)) if whole else None,
        ci95=None,
    )


def spread(metric: str, group: Entry) -> float | None:
    """The standard deviation of a metric between the seeds; None where a model has no value."""
    values = [value for one in group.members if (value := one.value(metric)) is not None]
    return stdev(values) if len(values) == len(group.members) > 1 else None
