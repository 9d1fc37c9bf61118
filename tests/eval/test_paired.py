"""The paired tests against slow ones in exact arithmetic, at any magnitude."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.report import paired as paired_module
from eval.report.paired import paired


def slow_p(differences: list[Fraction]) -> Fraction:
    """The share of all sign patterns whose sum is as far from 0 as the observed one, ties with it included."""
    observed = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    reached = sum(abs(sum(s * d for s, d in zip(p, differences, strict=True))) >= observed for p in patterns)
    return Fraction(reached, len(patterns))


WHOLE = st.lists(st.integers(-999_999, 999_999).filter(bool), min_size=1, max_size=8)


@settings(max_examples=150)
@given(WHOLE, st.integers(-15, 6))
@example([1, 2, -3], -1)  # as floats they sum to no 0
@example([3, 2, 1, 1, 1], -15)
@example([4_000_123, 7_300_411, 2_900_877, 9_100_003, 5_500_001], -3)
def test_the_exact_p_is_that_of_fractions_at_any_magnitude(whole: list[int], exponent: int) -> None:
    """Decimals, whose sums tie where those of the nearest floats need not."""
    decimals = [Fraction(n) * Fraction(10) ** exponent for n in whole]
    assert paired([0.0] * len(whole), [float(d) for d in decimals]).p == float(slow_p(decimals))


@given(st.lists(st.floats(1e-15, 1e6) | st.floats(-1e6, -1e-15), min_size=1, max_size=8))
def test_it_is_never_below_the_observed_pattern_and_its_mirror(differences: list[float]) -> None:
    found = paired([0.0] * len(differences), differences).p
    assert found is not None and 2 / 2 ** len(differences) <= found <= 1
    assert found >= slow_p([Fraction(d) for d in differences])


@pytest.mark.parametrize("scale", [1e-15, 1e-13, 1.0, 1e6, 1e9])
def test_the_drawn_p_is_near_the_exact_one_at_any_magnitude(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    whole = [float((7 * n) % 13 - 4) for n in range(14)]
    exact = paired([0.0] * 14, whole).p or 0.0
    monkeypatch.setattr(paired_module, "EXACT_UP_TO", 5)
    drawn = paired([0.0] * 14, [scale * n for n in whole]).p
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / paired_module.DRAWS))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(lambda values: max(values) - min(values) > 1e-3))
def test_the_interval_of_a_mean_difference_is_students(differences: list[float]) -> None:
    zeros = [0.0] * len(differences)
    low, high = stats.ttest_rel(differences, zeros).confidence_interval(0.95)
    assert paired(zeros, differences).ci95 == pytest.approx((low, high), rel=1e-5, abs=1e-5)
    assert paired(zeros, differences, [2.5] * len(zeros)).ci95 == pytest.approx(
        (low / 2.5, high / 2.5), rel=1e-5, abs=1e-5
    )


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("growth", [1.0, 1.5, 3.0])
def test_the_interval_misses_as_rarely_as_it_says_however_few_the_samples(n: int, growth: float) -> None:
    """At each end in one of forty, within four standard deviations of so many trials; samples of tokens that grow.

    The percentiles of resampled samples miss in 250 of 1,000 at two samples, and in 60 at eight.
    """
    chance, trials = random.Random(n), 1000
    tokens, missed = [growth**k for k in range(n)], [0, 0]
    for _ in range(trials):
        found = paired([0.0] * n, [chance.gauss(0.3, 1.0) * many for many in tokens], tokens).ci95
        assert found is not None
        missed[0] += found[0] > 0.3
        missed[1] += found[1] < 0.3
    assert max(missed) <= trials / 40 + 4 * math.sqrt(trials / 40)


def test_there_is_no_interval_where_one_sample_has_all_the_weight() -> None:
    assert paired([1.0, 2.0], [1.5, 2.0], [3.0, 0.0]).ci95 is None
    assert paired([1.0, 2.0], [1.5, 2.0], [0.0, 0.0]).ci95 is None
    assert paired([1.0, 2.0], [1.5, 2.0], [3.0, 3.0]).ci95 is not None
