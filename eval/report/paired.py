"""Paired tests: two models answered the same samples, so only their differences count."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import stdev

from eval.statistics import ratio_error, t_bound

DRAWS = 5000
EXACT_UP_TO = 14  # samples: 2^14 sign patterns are all tried
ROUNDING = 1e-12  # of the sum of magnitudes: what sums of the same differences, added otherwise, may be apart


@dataclass(frozen=True, kw_only=True)
class Paired:
    """`baseline` is a's mean, `difference` that of b − a (per token where weights are tokens); `p` is two-sided.

    Wins are b above a.
    """

    n: int
    baseline: float
    difference: float
    ci95: tuple[float, float] | None
    p: float | None
    wins: int
    losses: int
    ties: int
    test: str


def paired(a: Sequence[float], b: Sequence[float], weights: Sequence[float] | None = None, seed: int = 42) -> Paired:
    """Compare two models on the same samples.

    Args:
        a, b: one value a sample, equally long.
        weights: what the sums are divided by (tokens, of summed losses), else 1 a sample.
        seed: of the permutation test.
    """
    differences = [y - x for x, y in zip(a, b, strict=True)]
    n, total = len(differences), math.fsum(weights) if weights else float(len(differences))
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p, test = _test(differences, wins, losses, seed)
    return Paired(
        n=n,
        baseline=math.fsum(a) / total if total else 0.0,
        difference=math.fsum(differences) / total if total else 0.0,
        ci95=_interval(differences, weights or [1.0] * n) if n > 1 else None,
        p=p,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        test=test,
    )


@dataclass(frozen=True, kw_only=True)
class OfSeeds(Paired):
    """As `Paired`, where a model stands for several that were trained with other seeds: a sample's value is their mean.

    seeds: models on each side. spread: the standard deviation of their means on each side; None of one model alone.
    p_samples: what the samples alone say, as if other seeds would give the same models.
    """

    seeds: tuple[int, int]
    spread: tuple[float | None, float | None]
    p_samples: float | None


def paired_seeds(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
    *,
    trained: tuple[bool, bool] = (True, True),
    seed: int = 42,
) -> OfSeeds:
    """Compare two trainings by models of several seeds on the same samples.

    Both levels count: the seeds, by Student's t of the pooled variance between the models of a side, and the samples,
    less what neither explains alone and both hold (two-way clustering: Cameron, Gelbach & Miller, 2011). The two half
    widths add as squares, which keeps the few degrees of freedom of the seeds (Graybill & Wang, 1980); p is where such
    an interval ends at 0. It is never below that of the samples alone, which is exact for few of them.

    Args:
        a, b: of each model, one value a sample; two models or more on at least one side.
        weights: as in `paired`.
        trained: whether a side came of a training: what nobody trained has no seed to vary with. All others are taken
            to vary alike, one model alone as the models of the other side do.
    """
    first, second = ([math.fsum(column) / len(side) for column in zip(*side, strict=True)] for side in (a, b))
    base = paired(first, second, weights, seed)
    by = list(weights or [1.0] * base.n)
    total = math.fsum(by)
    means = [[math.fsum(values) / total if total else 0.0 for values in side] for side in (a, b)]
    spread = [stdev(side) if len(side) > 1 else None for side in means]
    p, ci95, test = base.p, base.ci95, base.test
    if ci95 is not None and p is not None and total:
        samples = ratio_error([y - x for x, y in zip(first, second, strict=True)], by) ** 2
        samples -= sum(_cells(side, own, by) for side, own in zip((a, b), means, strict=True) if len(side) > 1)
        freedom = sum(len(side) - 1 for side in means)
        within = sum((one or 0.0) ** 2 * (len(side) - 1) for one, side in zip(spread, means, strict=True)) / freedom
        seeds = within * sum(1 / len(side) for side, own in zip(means, trained, strict=True) if own)
        levels = ((seeds, freedom), (max(0.0, samples), base.n - 1))
        half = _half(levels, 0.05)
        p = max(p, _reached(levels, abs(base.difference)))
        ci95 = min(ci95[0], base.difference - half), max(ci95[1], base.difference + half)
        test = f"t over seeds ({freedom} degrees of freedom) and samples"
    return OfSeeds(
        n=base.n, baseline=base.baseline, difference=base.difference, ci95=ci95, p=p, wins=base.wins,
        losses=base.losses, ties=base.ties, test=test, seeds=(len(a), len(b)), spread=(spread[0], spread[1]),
        p_samples=base.p,
    )  # fmt: skip


Levels = Sequence[tuple[float, int]]  # variance of the difference, and its degrees of freedom


def _half(levels: Levels, alpha: float) -> float:
    """Half the width of the interval that leaves out `alpha`."""
    return math.sqrt(math.fsum(t_bound(freedom, alpha) ** 2 * variance for variance, freedom in levels if variance))


def _reached(levels: Levels, distance: float) -> float:
    """The alpha whose interval is just so wide as a distance from 0."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if _half(levels, middle) < distance else (middle, high)
    return high


def _cells(side: Sequence[Sequence[float]], means: Sequence[float], weights: Sequence[float]) -> float:
    """The variance of a side's mean by what neither a seed nor a sample alone explains, which both levels hold."""
    models, n = len(side), len(weights)
    middle = math.fsum(means) / models
    average = [math.fsum(column) / models for column in zip(*side, strict=True)]
    squares = math.fsum(
        (value - usual - (mean - middle) * weight) ** 2
        for values, mean in zip(side, means, strict=True)
        for value, usual, weight in zip(values, average, weights, strict=True)
    )
    return squares * n / ((models - 1) * (n - 1) * models * math.fsum(weights) ** 2)


def _test(differences: Sequence[float], wins: int, losses: int, seed: int) -> tuple[float | None, str]:
    moved = [d for d in differences if d]
    if not moved:
        return (1.0 if differences else None), "no sample differs"
    if len({abs(d) for d in moved}) == 1:
        return sign_test(wins, losses), "exact sign test (McNemar)"
    if len(moved) <= EXACT_UP_TO:
        return _all_signs(moved), "exact sign-flip permutation test"
    return _drawn_signs(moved, seed), f"sign-flip permutation test, {DRAWS} draws"


def sign_test(wins: int, losses: int) -> float:
    """The two-sided binomial probability of a split at least as uneven, were both equally likely."""
    n, low = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, k) for k in range(low + 1))
    return min(1.0, float(2 * tail / 2**n))


def _all_signs(moved: Sequence[float]) -> float:
    """The observed pattern and its mirror always count, so that p is at least 2 / 2^n."""
    sums = [0.0]
    for d in moved:
        sums = [s + sign * d for s in sums for sign in (1, -1)]
    least = _reached_from(moved)
    return max(2, sum(abs(s) >= least for s in sums)) / len(sums)


def _drawn_signs(moved: Sequence[float], seed: int) -> float:
    """The observed pattern counts as one draw, so that p is never 0 (Phipson & Smyth, 2010)."""
    draw, n, total = random.Random(seed), len(moved), math.fsum(moved)
    least, reached = _reached_from(moved), 1
    for _ in range(DRAWS):
        kept = sum(compress(moved, map(int, f"{draw.getrandbits(n):0{n}b}")))
        reached += abs(2 * kept - total) >= least
    return reached / (DRAWS + 1)


def _reached_from(moved: Sequence[float]) -> float:
    """From where a pattern's sum is as far from 0 as the observed one, by the rounding of such sums."""
    return abs(math.fsum(moved)) - ROUNDING * math.fsum(map(abs, moved))


def _interval(differences: Sequence[float], weights: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of Σ differences / Σ weights: Student's t on the error of the jackknife (Tukey, 1958).

    Of equal weights it is that of a mean, exact where differences are normal, however few. Of others a long sample must
    not pass for many: the error is by what each sample moves when it is left out, and the degrees of freedom are those
    of so many samples of equal weight (Kish, Survey Sampling, 8.2). None where one sample has all the weight.
    """
    n, total = len(differences), math.fsum(weights)
    rest = [total - weight for weight in weights]
    if min(rest) <= 0:
        return None
    value = math.fsum(differences) / total
    moved = [(d - value * weight) / others for d, weight, others in zip(differences, weights, rest, strict=True)]
    equal = (total / math.hypot(*weights)) ** 2
    half = t_bound(max(1.0, equal - 1)) * math.sqrt((n - 1) / n) * math.hypot(*moved)
    return (value - half, value + half) if math.isfinite(half) else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction for several tests at once; None stays None."""
    order = sorted((p, n) for n, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, n) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[n] = highest
    return adjusted
