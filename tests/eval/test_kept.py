"""The verdict on an exported model, on changes that are known."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.kept import kept
from eval.report.results import Entry
from eval.suites import suite
from tests.eval.made import measure, provenance, results
from tests.eval.test_gate import model


def changed(shift: float, spread: float, n: int) -> tuple[Entry, Entry]:
    """A model of two nats a token, and one whose loss is higher by `shift`, more or less."""
    chance = random.Random(n)
    old = [chance.gauss(2.0, 0.3) for _ in range(n)]
    moved = [chance.gauss(0, spread) for _ in range(n)]
    middle = sum(moved) / n
    return model("before", old), model("after", [a + shift + b - middle for a, b in zip(old, moved, strict=True)])


@pytest.mark.parametrize(
    "shift,spread,n,verdict",
    [
        (0.0, 0.0, 30, "good"),
        (0.01, 0.01, 60, "good"),
        (-0.5, 0.01, 60, "good"),  # lower is no harm
        (0.1, 0.01, 60, "not good"),
        (0.025, 0.01, 60, "not good"),  # e^0.025 - 1 = 2.5 %
        (0.0, 0.3, 20, "can't tell"),
        (0.019, 0.01, 20, "can't tell"),
        (0.1, 0.0, 1, "can't tell"),  # one row has no interval
    ],
)
def test_verdicts(shift: float, spread: float, n: int, verdict: str) -> None:
    found = kept(*changed(shift, spread, n), margin=0.02)
    assert found.verdict == verdict, found.reason
    assert found.perplexity and found.perplexity.n == n and not found.metrics


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_rows_seldom_call_a_loss_of_the_margin_good(n: int) -> None:
    """In one of forty of such models, not in one of four."""
    chance, good = random.Random(n), 0
    for _ in range(60):
        old = [chance.gauss(2.0, 0.3) for _ in range(n)]
        new = [loss + math.log1p(0.02) + chance.gauss(0, 0.05) for loss in old]
        good += kept(model("before", old), model("after", new), margin=0.02).verdict == "good"
    assert good <= 6


def test_a_change_beyond_all_numbers_is_not_good() -> None:
    """On the one row that both answered; the other's loss makes the perplexity a number again."""
    sides = []
    for name, rows in (("before", [(1.0, 1)]), ("after", [(1000.0, 1), (1.0, 1000)])):
        records = [{"id": str(n), "nll": nll, "tokens": tokens} for n, (nll, tokens) in enumerate(rows)]
        measured = suite("perplexity").measures(records, 42)
        about = provenance(name, ("perplexity",))
        sides.append(Entry(name=name, results=results(measured, about), records={"perplexity": records}))
    found = kept(*sides, margin=0.02)
    assert found.perplexity and found.perplexity.change > 1e300 and found.verdict == "can't tell"


@given(
    st.lists(
        st.tuples(st.floats(0.1, 50), st.floats(0.1, 50), st.integers(1, 40)),
        min_size=2,
        max_size=30,
    )
)
def test_the_change_is_that_of_the_two_perplexities(rows: list[tuple[float, float, int]]) -> None:
    sides = []
    for place in (0, 1):
        records = [{"id": str(n), "nll": row[place], "tokens": row[2]} for n, row in enumerate(rows)]
        about = provenance(str(place), ("perplexity",), len(rows))
        measured = suite("perplexity").measures(records, 42)
        sides.append(Entry(name=str(place), results=results(measured, about), records={"perplexity": records}))
    found = kept(*sides, margin=0.02).perplexity
    assert found
    tokens = sum(row[2] for row in rows)
    before, after = (math.exp(sum(row[place] for row in rows) / tokens) for place in (0, 1))
    assert (found.before, found.after) == pytest.approx((before, after))
    assert found.change == pytest.approx(after / before - 1, rel=1e-6, abs=1e-9)


def preferring(entry: Entry, right: Sequence[int], *, perplexity: bool = True) -> Entry:
    """With as many pairs, told apart rightly or not."""
    suites = (*(("perplexity",) if perplexity else ()), "preference")
    metrics = {name: one for name, one in entry.metrics.items() if perplexity}
    accuracy = measure(sum(right) / len(right), n=len(right))
    rows = [{"id": str(n), "correct": one} for n, one in enumerate(right)]
    about = provenance(entry.name, suites, len(right))
    records = {"perplexity": entry.records["perplexity"], "preference": rows}
    return replace(entry, results=results({**metrics, "preference.accuracy": accuracy}, about), records=records)


@pytest.mark.parametrize(
    "lost,verdict",
    [(0, "good"), (1, "good"), (30, "not good")],  # one pair less is no loss that is shown, and speaks not against it
)
def test_another_metric_can_only_speak_against_it(lost: int, verdict: str) -> None:
    before, after = changed(0.0, 0.001, 60)
    right = [1] * 50 + [0] * 10
    found = kept(preferring(before, right), preferring(after, [0] * lost + right[lost:]), margin=0.02)
    assert found.verdict == verdict, found.reason
    assert [one.metric for one in found.metrics] == ["preference.accuracy"]
    assert ("preference.accuracy" in found.reason) == (verdict == "not good")


@pytest.mark.parametrize("n,lost,verdict", [(400, 0, "good"), (20, 0, "can't tell"), (400, 200, "not good")])
def test_without_a_perplexity_the_others_decide(n: int, lost: int, verdict: str) -> None:
    before, after = changed(0.0, 0.001, 60)
    right = [1] * n
    sides = (
        preferring(before, right, perplexity=False),
        preferring(after, [0] * lost + right[lost:], perplexity=False),
    )
    found = kept(*sides, margin=0.02)
    assert found.verdict == verdict and found.perplexity is None, found.reason


def test_a_perplexity_that_is_no_number_is_not_good() -> None:
    before, after = changed(0.0, 0.01, 20)
    metrics = {**after.metrics, "perplexity": measure(None)}
    found = kept(before, replace(after, results=replace(after.results, metrics=metrics)), margin=0.02)
    assert found.verdict == "not good" and "perplexity was" in found.reason and "no number" in found.reason


def test_rows_that_the_exported_model_cannot_answer_are_not_its_advantage() -> None:
    before, after = changed(-0.1, 0.01, 40)
    failing = {name: replace(one, n=20, failures=20) for name, one in after.metrics.items()}
    answered = {"perplexity": list(after.records["perplexity"])[:20]}
    after = replace(after, results=replace(after.results, metrics=failing), records=answered)
    found = kept(before, after, margin=0.02)
    assert found.verdict == "not good" and "20 of 40 samples have no answer" in found.reason
