"""Every number with its n, failures, standard error and interval: how the samples' values become a `Measure`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

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
        error = slope * scale * ratio_error(numerators, denominators)
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


def ratio_error(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The standard error of Σ numerators / Σ denominators over two or more samples (see `ratio`)."""
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


def t_test(t: float, freedom: float) -> float:
    """The two-sided p of Student's t with so many degrees of freedom, which need not be a whole number."""
    if math.isinf(t):
        return 0.0
    return _beta(freedom / 2, 0.5, freedom / (freedom + t * t))


@cache
def t_bound(freedom: float, alpha: float = 0.05) -> float:
    """What |t| exceeds with the probability `alpha`: at 5 % 12.7 for 1 degree of freedom, 1.96 for many."""
    low, high = 0.0, 1.0
    while t_test(high, freedom) > alpha:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if t_test(middle, freedom) > alpha else (low, middle)
    return high


def _beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (DLMF 8.17.22) and Lentz's method."""
    if x <= 0 or x >= 1:
        return min(1.0, max(0.0, x))
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly below this only
        return 1 - _beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    found = d
    for m in range(1, 1000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            found *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * found
