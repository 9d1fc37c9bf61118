"""Every number with its n, failures, standard error and interval: how the samples' values become a `Measure`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

RESAMPLES = 1000
Z95 = 1.959963984540054  # the 97.5 percentile of the normal distribution


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a result.

    `n` counts the samples behind the value and `failures` those without an answer, which are not in it. `se` is the
    standard error in the value's own unit, `ci95` the percentile interval of a seeded bootstrap over samples, or of
    shares (see `mean`) Wilson's; both are None where there are too few samples.
    """

    value: float | None
    n: int
    failures: int
    se: float | None
    ci95: tuple[float, float] | None
    implementation: str


def mean(
    values: Sequence[float],
    *,
    implementation: str,
    failures: int = 0,
    seed: int = 42,
    scale: float = 1.0,
    share: bool = False,
) -> Measure:
    """The plain mean of one value a sample, times `scale`.

    `share`: the values lie between 0 and 1. Where each is 0 or 1 the interval is Wilson's: resampling two right answers
    of two gives two right ones each time, and an interval of no width.
    """
    found = ratio(values, [1.0] * len(values), implementation=implementation, failures=failures, seed=seed, scale=scale)
    if found.ci95 is None or not share or not set(values) <= {0.0, 1.0}:
        return found
    low, high = wilson(math.fsum(values), len(values))
    return replace(found, ci95=(scale * low, scale * high))


def wilson(right: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, 1927)."""
    share, square = right / n, Z95 * Z95 / n
    centre, half = share + square / 2, math.sqrt(square * (share * (1 - share) + square / 4))
    return max(0.0, (centre - half) / (1 + square)), min(1.0, (centre + half) / (1 + square))


def ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    implementation: str,
    failures: int = 0,
    seed: int = 42,
    scale: float = 1.0,
    transform: Callable[[float], float] | None = None,
) -> Measure:
    """`transform(scale × Σ numerators / Σ denominators)`, resampled by sample: never a mean of means.

    The standard error is that of a ratio estimator (Cochran, Sampling Techniques, 6.3); under `transform`, by its
    slope at the value.
    """
    n = len(numerators)
    if math.fsum(denominators) == 0:  # of no samples, too
        return Measure(value=None, n=n, failures=failures, se=None, ci95=None, implementation=implementation)
    apply = transform or _same
    point = scale * math.fsum(numerators) / math.fsum(denominators)
    value, error = apply(point), None
    interval: tuple[float, float] | None = None
    if n > 1:
        slope = _slope(apply, point) if transform else 1.0
        error = slope * scale * _ratio_error(numerators, denominators)
        interval = _interval(numerators, denominators, seed, lambda value: apply(scale * value))
    if not math.isfinite(value):
        implementation = f"{implementation}: {value} is no number to compare"
    return Measure(
        value=value if math.isfinite(value) else None,
        n=n,
        failures=failures,
        se=error if error is not None and math.isfinite(error) else None,
        ci95=interval if interval and all(map(math.isfinite, interval)) else None,
        implementation=implementation,
    )


def count(value: int, *, n: int, implementation: str, failures: int = 0) -> Measure:
    """A bare count, which has no interval."""
    return Measure(value=value, n=n, failures=failures, se=None, ci95=None, implementation=implementation)


def perplexity(nll: float) -> float:
    """exp of a mean negative log-likelihood in nats; infinite where it overflows."""
    return math.exp(nll) if nll < 709 else math.inf


def _same(value: float) -> float:
    return value


def _slope(apply: Callable[[float], float], point: float) -> float:
    step = 1e-6 * max(1.0, abs(point))
    above, below = apply(point + step), apply(point - step)
    return abs(above - below) / (2 * step)


def _ratio_error(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    n, total = len(numerators), math.fsum(denominators)
    value = math.fsum(numerators) / total
    squares = math.fsum((a - value * b) ** 2 for a, b in zip(numerators, denominators, strict=True))
    return math.sqrt(n / (n - 1) * squares) / total


def _interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int, apply: Callable[[float], float]
) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles over resampled samples; plain Python, so that every environment agrees."""
    draw = random.Random(seed)
    indices = range(len(numerators))
    equal = all(b == denominators[0] for b in denominators)  # a mean: the denominator does not vary
    total = math.fsum(denominators)
    values = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(indices, k=len(indices))
        below = total if equal else sum(map(denominators.__getitem__, chosen))
        values.append(sum(map(numerators.__getitem__, chosen)) / below if below else 0.0)
    values.sort()
    return apply(percentile(values, 0.025)), apply(percentile(values, 0.975))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the two nearest of sorted values (numpy's default)."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
