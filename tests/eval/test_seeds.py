"""Training seeds as a level of their own: the test, how often it errs, and what a report says of them."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from math import fsum
from statistics import mean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.report.compare import compare
from eval.report.data import report_json
from eval.report.gate import gate
from eval.report.html import html
from eval.report.markdown import markdown
from eval.report.paired import OfSeeds, paired, paired_seeds
from eval.report.results import Entry
from eval.report.seeds import units
from eval.report.tables import make_report
from eval.report.verdicts import verdicts
from eval.statistics import t_bound, t_test
from tests.eval.made import measure, results
from tests.eval.test_gate import model

THOROUGH = bool(os.environ.get("RECIPE_THOROUGH"))
TIMES = 600 if THOROUGH else 50


@given(st.floats(0, 60), st.floats(0.5, 500))
def test_students_t_is_that_of_scipy(t: float, freedom: float) -> None:
    assert t_test(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), abs=1e-7)


@pytest.mark.parametrize("freedom", [1, 2, 3.5, 30, 1000])
@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.001])
def test_its_bound_is_that_of_scipy(freedom: float, alpha: float) -> None:
    assert t_bound(freedom, alpha) == pytest.approx(stats.t.isf(alpha / 2, freedom), rel=1e-6)


def trainings(
    chance: random.Random, models: int, texts: Sequence[float], seeds: float, each: float
) -> list[list[float]]:
    """Models of one training: what a text is worth, what the seed adds to all, and what it adds to each."""
    found = []
    for _ in range(models):
        shift = chance.gauss(0, seeds)
        found.append([text + shift + chance.gauss(0, each) for text in texts])
    return found


@pytest.mark.parametrize("models", [(2, 2), (3, 3), (3, 1), (2, 5)] if THOROUGH else [(2, 2), (3, 1)])
@pytest.mark.parametrize("seeds,each", [(0.1, 0.05), (0.05, 0.2), (0.0, 0.2)] if THOROUGH else [(0.1, 0.05)])
def test_it_errs_as_rarely_as_it_says(models: tuple[int, int], seeds: float, each: float) -> None:
    """Two trainings that are the same but for their seeds: the samples alone call many a difference, this one few."""
    chance, errs, alone = random.Random(7), 0, 0
    for _ in range(TIMES):
        texts = [chance.gauss(2, 0.3) for _ in range(30)]
        a, b = (trainings(chance, count, texts, seeds, each) for count in models)
        found = paired_seeds(a, b)
        assert found.p is not None and found.p_samples is not None
        errs, alone = errs + (found.p < 0.05), alone + (found.p_samples < 0.05)
    # 6 % and three standard deviations of a share of so many.
    assert errs / TIMES <= 0.06 + 3 * (0.06 * 0.94 / TIMES) ** 0.5
    if seeds == 0.1:
        assert alone / TIMES > 0.5, "the samples alone would have called half of them"


def test_a_difference_larger_than_the_seeds_is_found() -> None:
    chance, found = random.Random(3), 0
    for _ in range(40):
        texts = [chance.gauss(2, 0.3) for _ in range(30)]
        a, b = (trainings(chance, 3, texts, 0.02, 0.05) for _ in range(2))
        found += (paired_seeds(a, [[value + 0.15 for value in one] for one in b]).p or 1) < 0.05
    assert found > 36


def test_with_seeds_that_decide_all_it_is_the_t_test_of_their_means() -> None:
    a, b = [[1.0] * 20, [1.2] * 20, [1.1] * 20], [[1.5] * 20, [1.25] * 20]
    found = paired_seeds(a, b)
    wanted = stats.ttest_ind([1.0, 1.2, 1.1], [1.5, 1.25])
    low, high = wanted.confidence_interval(0.95)
    assert found.p == pytest.approx(wanted.pvalue, abs=1e-6)
    assert found.ci95 == pytest.approx((-high, -low))
    assert found.spread == pytest.approx((0.1, stdev([1.5, 1.25]))) and found.seeds == (3, 2)


@settings(max_examples=200 if THOROUGH else 12, deadline=None)
@given(st.data())
def test_it_is_never_surer_than_the_samples_and_knows_no_order(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 6))
    values = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=n, max_size=n)
    a, b = data.draw(st.lists(values, min_size=2, max_size=3)), data.draw(st.lists(values, min_size=1, max_size=3))
    weights = data.draw(st.none() | st.lists(st.integers(1, 9), min_size=n, max_size=n))
    found = paired_seeds(a, b, weights)
    means = [[fsum(column) / len(column) for column in zip(*side, strict=True)] for side in (a, b)]
    alone = paired(*means, weights)
    assert found.p is not None and alone.p is not None and found.p >= alone.p
    assert found.difference == pytest.approx(alone.difference)
    turned = paired_seeds(b, a[::-1], weights)
    assert turned.difference == pytest.approx(-found.difference, abs=1e-9)
    if found.ci95 and alone.ci95:
        assert found.ci95[0] <= alone.ci95[0] + 1e-9 and found.ci95[1] >= alone.ci95[1] - 1e-9


def of_seeds(name: str, shift: float, seeds: Sequence[float], start: int = 1) -> list[Entry]:
    """A model for each seed, whose losses are all shifted by what that seed does."""
    losses = [2 + n % 7 / 10 for n in range(40)]
    return [
        replace(
            model(f"{name}-seed-{start + n}", [loss - shift - seed + n % 3 / 1000 for n, loss in enumerate(losses)]),
            seed=start + n,
            trained_as=name,
        )
        for n, seed in enumerate(seeds)
    ]


BASE = model("base", [2.5 + n % 7 / 10 + n % 5 / 100 for n in range(40)])
BASE = replace(BASE, results=replace(BASE.results, provenance=replace(BASE.provenance, run={"tuning": "none"})))


def test_models_of_one_training_are_one() -> None:
    a, b = of_seeds("a", 0, [0, 0.1, 0.2]), of_seeds("b", 0, [0, 0.1])
    again = replace(a[0], name="a-again")
    found = units([BASE, *a, *b, again])
    assert [one.name for one in found] == ["base", "a (seeds 1, 2, 3)", "b (seeds 1, 2)", "a-again"]
    assert found[1].value("test_loss") == pytest.approx(mean(one.value("test_loss") or 0 for one in a))
    alone = units([replace(one, trained_as="") for one in a])
    assert [one.name for one in alone] == [one.name for one in a] and not any(one.members for one in alone)


def test_what_was_measured_otherwise_is_no_member() -> None:
    a = of_seeds("a", 0, [0, 0.1])
    other = replace(a[1].provenance, engine={**a[1].provenance.engine, "dtype": "bfloat16"})
    assert len(units([a[0], replace(a[1], results=replace(a[1].results, provenance=other))])) == 2


def test_a_difference_within_the_seeds_is_not_called_one() -> None:
    """Each pair of models differs beyond doubt by its samples; the trainings do not."""
    a, b = of_seeds("a", 0, [0, 0.1, -0.1]), of_seeds("b", 0.04, [0.1, -0.1, 0])
    assert gate(a[0], b[0]).verdict == "SHIP", "one seed each: the samples decide"
    report = make_report([*a, *b])
    (comparison,) = report.comparisons.values()
    assert {row.verdict for row in comparison.rows} == {"no difference beyond seeds"}
    (said,) = verdicts(report)
    assert "is shown beyond what training seeds do" in said.text and "40 samples and 3 + 3 models" in said.text
    assert gate(*units([*a, *b])).verdict == "CAN'T TELL"
    better = units([*a, *of_seeds("b", 1.0, [0.1, -0.1, 0])])
    assert gate(*better).verdict == "SHIP"


def test_a_report_shows_what_the_seeds_do() -> None:
    a, b = of_seeds("a", 0.5, [0, 0.1, -0.1]), of_seeds("<b>", 0.9, [0.1, -0.1], start=4)
    report = make_report([BASE, *a, *b])
    assert list(report.comparisons) == ["a (seeds 1, 2, 3)", "<b> (seeds 4, 5)"]
    assert "Training seeds of &lt;b&gt; (seeds 4, 5)" in html(report)
    for text in (html(report), markdown(report)):
        assert "Training seeds of a (seeds 1, 2, 3)" in text and "SD of seeds" in text and "seed 5" in text
    found = report_json(report, examples=3, replies=3)["seeds"]
    assert found["a (seeds 1, 2, 3)"]["models"] == {"1": "a-seed-1", "2": "a-seed-2", "3": "a-seed-3"}
    assert found["a (seeds 1, 2, 3)"]["metrics"]["test_loss"]["sd"] == pytest.approx(0.1, rel=1e-6)


def test_with_one_seed_each_nothing_changes() -> None:
    a, b = of_seeds("a", 0, [0]), of_seeds("b", 0.3, [0])
    known = [replace(one, seed=None, trained_as="") for one in (*a, *b)]
    assert report_json(make_report([*a, *b]), examples=3, replies=3) == report_json(
        make_report(known), examples=3, replies=3
    )
    assert "seeds" not in report_json(make_report(known), examples=3, replies=3)
    assert not any(isinstance(row.paired, OfSeeds) for row in compare(*a, *b))


def test_the_mean_of_numbers_near_the_largest_is_a_number() -> None:
    """Their sum is none."""
    measured = {"x": measure(8e307)}
    entries = [Entry(name=str(n), results=results(measured), seed=n, trained_as="t") for n in range(3)]
    (group,) = units(entries)
    assert group.value("x") == 8e307
