"""The numbers a result is made of: values, standard errors, intervals, failures."""

from __future__ import annotations

import math

import pytest

from eval.statistics import count, mean, percentile, perplexity, ratio
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


def test_percentile_interpolates() -> None:
    assert percentile([0.0, 1.0, 2.0, 3.0, 4.0], 0.375) == 1.5
    assert percentile([7.0], 0.975) == 7.0


def test_count_has_no_interval() -> None:
    assert to_json(count(3, n=5, implementation="x")) == {
        "value": 3, "n": 5, "failures": 0, "se": None, "ci95": None, "implementation": "x",
    }  # fmt: skip
