"""The numbers a result is made of: values, standard errors, intervals, failures."""

from __future__ import annotations

import math
import random
import statistics
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eval.statistics import Measure, count, mean, percentile, perplexity, ratio, wilson
from recipes.typed import to_json


def test_mean_has_the_textbook_standard_error() -> None:
    """sd / √n with n − 1."""
    measure = mean([1.0, 2.0, 3.0, 4.0], implementation="x")
    assert measure.value == 2.5
    assert measure.se == pytest.approx(math.sqrt(5 / 3) / 2)
    assert measure.n == 4


def test_perplexity_is_no_mean_of_means() -> None:
    """A long sample counts by its tokens."""
    measure = ratio([10.0, 1.0], [2.0, 8.0], transform=perplexity, implementation="x")
    assert measure.value == pytest.approx(math.exp(11 / 10))
    assert measure.value != pytest.approx(math.exp((5 + 0.125) / 2))


def test_standard_error_of_perplexity_agrees_with_the_bootstrap() -> None:
    """The slope of exp turns the error of the loss into that of the perplexity; the interval is about ± 1.96 of it."""
    nll = [50.0 + 7 * math.sin(n) for n in range(200)]
    tokens = [25.0 + 5 * math.cos(3 * n) for n in range(200)]
    measure = ratio(nll, tokens, transform=perplexity, implementation="x")
    assert measure.ci95 is not None and measure.se is not None
    assert (measure.ci95[1] - measure.ci95[0]) / 2 == pytest.approx(1.96 * measure.se, rel=0.12)


def test_interval_depends_on_the_seed_alone() -> None:
    values = [float(n % 7) for n in range(50)]
    assert mean(values, implementation="x", seed=1) == mean(values, implementation="x", seed=1)
    assert mean(values, implementation="x", seed=1).ci95 != mean(values, implementation="x", seed=2).ci95


def test_failures_are_not_zeros() -> None:
    measure = mean([1.0, 1.0], failures=3, implementation="x")
    assert (measure.value, measure.n, measure.failures) == (1.0, 2, 3)


@pytest.mark.parametrize("values", [[], [2.0]])
def test_too_few_samples_have_no_interval(values: list[float]) -> None:
    measure = mean(values, implementation="x")
    assert measure.value == (2.0 if values else None)
    assert measure.se is None and measure.ci95 is None


def test_scale_applies_to_all_parts() -> None:
    plain, scaled = (mean([0.1, 0.4, 0.9], implementation="x", scale=s) for s in (1.0, 100.0))
    assert scaled.value == pytest.approx(100 * (plain.value or 0))
    assert scaled.se == pytest.approx(100 * (plain.se or 0))
    assert scaled.ci95 == pytest.approx(tuple(100 * c for c in plain.ci95 or ()))


def test_overflowing_perplexity_is_infinite() -> None:
    assert perplexity(1000.0) == math.inf
    assert perplexity(708.9) == math.exp(708.9)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_percentiles_are_those_of_the_standard_library(values: list[float]) -> None:
    """statistics.quantiles of 40 parts: 2.5, 5, … 97.5 percent; and the ends."""
    ordered = sorted(values)
    cuts = statistics.quantiles(values, n=40, method="inclusive")
    found = [percentile(ordered, part / 40) for part in range(41)]
    assert found == pytest.approx([ordered[0], *cuts, ordered[-1]], rel=1e-9, abs=1e-6)
    assert (found[0], found[-1]) == (ordered[0], ordered[-1])
    assert percentile([7.0], 0.975) == 7.0


def _slow_interval(numerators: list[float], denominators: list[float], seed: int) -> list[float]:
    """Drawn and divided one by one, in fractions; a resample without any denominator is 0."""
    draw, found = random.Random(seed), []
    for _ in range(1000):
        chosen = draw.choices(list(range(len(numerators))), k=len(numerators))
        above, below = (sum((Fraction(part[n]) for n in chosen), Fraction(0)) for part in (numerators, denominators))
        found.append(float(above / below) if below else 0.0)
    cuts = statistics.quantiles(found, n=40, method="inclusive")
    return [cuts[0], cuts[-1]]


PAIRS = st.lists(st.tuples(st.floats(-100, 100), st.sampled_from([0.0, 1.0, 2.0, 7.5])), min_size=2, max_size=6)


@settings(max_examples=15)
@given(PAIRS, st.integers(0, 99))
@example([(1.0, 0.0), (2.0, 0.0), (3.0, 4.0)], 1)  # of 1,000 resamples, about 300 have no denominator
@example([(1.0, 2.0), (5.0, 2.0), (9.0, 2.0)], 2)
def test_the_interval_is_that_of_a_slow_bootstrap(pairs: list[tuple[float, float]], seed: int) -> None:
    numerators, denominators = ([pair[n] for pair in pairs] for n in (0, 1))
    found = ratio(numerators, denominators, implementation="x", seed=seed)
    if not any(denominators):
        assert found == Measure(value=None, n=len(pairs), failures=0, se=None, ci95=None, implementation="x")
    else:
        assert found.value == pytest.approx(sum(numerators) / sum(denominators))
        assert found.ci95 == pytest.approx(_slow_interval(numerators, denominators, seed), rel=1e-9, abs=1e-9)


@settings(max_examples=15)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.integers(0, 99))
def test_the_interval_of_a_mean_is_that_of_a_slow_bootstrap(values: list[float], seed: int) -> None:
    expected = _slow_interval(values, [1.0] * len(values), seed)
    assert mean(values, implementation="x", seed=seed).ci95 == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("make"), [lambda values: mean(values, implementation="x"),
                                    lambda values: ratio(values, [1.0] * len(values), implementation="x")])  # fmt: skip
@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_there_are_no_failures_unless_some_are_told(make: Any, values: list[float]) -> None:
    assert (make(values).n, make(values).failures) == (len(values), 0)


def test_samples_without_denominators_are_counted_and_have_no_value() -> None:
    found = ratio([1.0, 2.0], [0.0, 0.0], failures=3, implementation="x")
    assert found == Measure(value=None, n=2, failures=3, se=None, ci95=None, implementation="x")


@pytest.mark.parametrize("point", [1e-3, 1e-2, 1.0, 30.0])
def test_the_slope_of_a_transform_is_its_derivative(point: float) -> None:
    """d exp(x) = exp(x) dx, at small values and at large ones."""
    values = [point * share for share in (0.5, 1.0, 1.5)]
    plain, ppl = (ratio(values, [1.0] * 3, implementation="x", transform=t) for t in (None, perplexity))
    assert ppl.se == pytest.approx(math.exp(point) * (plain.se or 0), rel=2e-9)


def test_the_slope_at_a_large_value_takes_a_large_step() -> None:
    """A step of 1e-6 would be lost in the last digits of 1e9."""
    values = [0.5e9, 1e9, 1.5e9]
    plain, square = (ratio(values, [1.0] * 3, implementation="x", transform=t) for t in (None, lambda x: x * x))
    assert square.se == pytest.approx(2e9 * (plain.se or 0), rel=1e-9)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (2, 2, 0.3424, 1.0),
        (0, 4, 0.0, 0.4899),
        (81, 263, 0.2553, 0.3662),  # this and what follows: Newcombe (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_wilsons(right: int, n: int, low: float, high: float) -> None:
    found = mean([1.0] * right + [0.0] * (n - right), implementation="x", share=True)
    assert found.ci95 == pytest.approx((low, high), abs=5.1e-5)
    percent = mean([1.0] * right + [0.0] * (n - right), implementation="x", share=True, scale=100.0)
    assert percent.ci95 == pytest.approx((100 * low, 100 * high), abs=5.1e-3)


@given(st.integers(1, 40), st.data())
def test_wilsons_interval_holds_the_shares_that_a_score_test_keeps(n: int, data: st.DataObject) -> None:
    """By definition: p is inside where |share - p| is at most 1.96 standard errors under p."""
    right = data.draw(st.integers(0, n))
    low, high = wilson(right, n)
    z = statistics.NormalDist().inv_cdf(0.975)
    for p in (k / 1000 for k in range(1, 1000)):
        inside = abs(right / n - p) <= z * math.sqrt(p * (1 - p) / n)
        assert inside == (low <= p <= high) or min(abs(p - low), abs(p - high)) < 1e-9


def test_values_that_are_no_shares_are_resampled() -> None:
    values = [0.0, 1.0, 0.5]
    assert mean(values, implementation="x", share=True) == mean(values, implementation="x")
    assert mean([3.0, 3.0], implementation="x", share=True).ci95 == (3.0, 3.0)


def test_count_has_no_interval() -> None:
    assert to_json(count(3, n=5, implementation="x")) == {
        "value": 3, "n": 5, "failures": 0, "se": None, "ci95": None, "implementation": "x",
    }  # fmt: skip
