"""The paired tests against slow ones in exact arithmetic, at any magnitude."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
