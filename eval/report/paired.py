"""Paired tests: two models answered the same samples, so only their differences count."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from eval.statistics import RESAMPLES, percentile

DRAWS = 5000
EXACT_UP_TO = 14  # samples: 2^14 sign patterns are all tried


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
        seed: of the bootstrap interval and of the permutation test.
    """
    differences = [y - x for x, y in zip(a, b, strict=True)]
    n, total = len(differences), math.fsum(weights) if weights else float(len(differences))
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p, test = _test(differences, wins, losses, seed)
    return Paired(
        n=n,
        baseline=math.fsum(a) / total if total else 0.0,
        difference=math.fsum(differences) / total if total else 0.0,
        ci95=_interval(differences, weights or [1.0] * n, seed) if n > 1 else None,
        p=p,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        test=test,
    )


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
    observed = abs(math.fsum(moved))
    sums = [0.0]
    for d in moved:
        sums = [s + sign * d for s in sums for sign in (1, -1)]
    return sum(abs(s) >= observed - 1e-12 for s in sums) / len(sums)


def _drawn_signs(moved: Sequence[float], seed: int) -> float:
    """The observed pattern counts as one draw, so that p is never 0 (Phipson & Smyth, 2010)."""
    draw, n, total = random.Random(seed), len(moved), math.fsum(moved)
    reached = 1
    for _ in range(DRAWS):
        kept = sum(compress(moved, map(int, f"{draw.getrandbits(n):0{n}b}")))
        reached += abs(2 * kept - total) >= abs(total) - 1e-12
    return reached / (DRAWS + 1)


def _interval(differences: Sequence[float], weights: Sequence[float], seed: int) -> tuple[float, float]:
    draw, indices = random.Random(seed), range(len(differences))
    values = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(indices, k=len(indices))
        below = sum(map(weights.__getitem__, chosen))
        values.append(sum(map(differences.__getitem__, chosen)) / below if below else 0.0)
    values.sort()
    return percentile(values, 0.025), percentile(values, 0.975)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction for several tests at once; None stays None."""
    order = sorted((p, n) for n, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, n) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[n] = highest
    return adjusted
