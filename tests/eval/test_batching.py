"""Batches by length, and prefixes in common."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eval.engines.batching import by_length, common_prefix


@given(st.lists(st.integers(1, 50)), st.integers(1, 120))
def test_batches_hold_each_index_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(by_length(lengths, budget))
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[n] for n in batch) <= budget


def test_the_longest_come_first() -> None:
    assert list(by_length([1, 9, 5], 10)) == [[1], [2, 0]]


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=5))
def test_common_prefix_is_the_longest(sequences: list[list[int]]) -> None:
    length = common_prefix(sequences)
    assert len({tuple(s[:length]) for s in sequences}) == 1
    assert any(len(s) == length for s in sequences) or len({s[length] for s in sequences}) > 1


def test_common_prefix_of_nothing() -> None:
    assert common_prefix([]) == 0
