"""Sources mixed by their weights: every row is there, what is short comes again, and the shares are the weights."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.mixture import mixed, of_sources, weighted
from runner.data.passes import Stop
from runner.data.spec import source_of

SOURCES = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 8)), min_size=1, max_size=5)


@settings(deadline=None)
@given(SOURCES, st.integers(0, 9))
def test_every_row_is_there_and_the_shares_are_the_weights(given_sources: list[tuple[int, int]], seed: int) -> None:
    sources = [source_of(f"{n}.jsonl", weight=weight / 4) for n, (_, weight) in enumerate(given_sources)]
    source_numbers = [n for n, (rows, _) in enumerate(given_sources) for _ in range(rows)]
    indices = [n for n in range(len(source_numbers)) if n % 3 or not n]  # the others are held out
    count = Counter(source_numbers[n] for n in indices)
    if len(count) < len(sources):
        with pytest.raises(Stop, match="has a weight, and no row of"):
            mixed(indices, source_numbers, sources, seed)
        return
    order = mixed(indices, source_numbers, sources, seed)
    assert list(order[: len(indices)]) == indices and set(order) == set(indices)
    assert order == mixed(indices, source_numbers, sources, seed)
    times = Counter(order)
    unit = max(Fraction(count[n], weight) for n, (_, weight) in enumerate(given_sources))
    found = of_sources(order, source_numbers, sources)
    for number, (_, weight) in enumerate(given_sources):
        own = [times[n] for n in indices if source_numbers[n] == number]
        assert max(own) - min(own) <= 1, "no row twice more often than another"
        assert sum(own) == found[f"{number}.jsonl"]
        assert abs(sum(own) - unit * weight) <= Fraction(1, 2), "the share to a row"
        if Fraction(count[number], weight) == unit:
            assert set(own) == {1}, "the largest beside its weight is there once"


def test_other_seeds_repeat_other_rows() -> None:
    sources = [source_of("a", weight=1), source_of("b", weight=1)]
    numbers = [0] * 150 + [1] * 100
    orders = [mixed(range(250), numbers, sources, seed) for seed in (1, 2)]
    assert len(orders[0]) == len(orders[1]) == 300 and orders[0] != orders[1]
    assert of_sources(orders[0], numbers, sources) == {"a": 150, "b": 150}


def test_a_row_that_would_be_there_thousands_of_times_is_refused() -> None:
    sources = [source_of("large", weight=0.001), source_of("small", weight=0.999)]
    text = r"data.train\[1\].weight: small has 2 rows, which would be repeated 499,500 times each"
    with pytest.raises(Stop, match=text):
        mixed(range(1002), [0] * 1000 + [1] * 2, sources, 1)


def test_weights_of_all_or_of_none() -> None:
    assert weighted([source_of("a", weight=1)]) and not weighted([source_of("a")])
