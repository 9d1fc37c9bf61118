"""Packs and blocks: every row whole and once, none too long, few and full; every token of a document once, in order."""

from __future__ import annotations

import random
from itertools import chain, combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.encode import IGNORE
from runner.data.packs import _blocks, _pack, best_fit

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=80)


def slow_best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """The rule as it is told: the longest first, each into the fullest pack that takes it."""
    packs: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        rooms = [(capacity - sum(lengths[n] for n in pack), number) for number, pack in enumerate(packs)]
        fitting = [(room, number) for room, number in rooms if room >= lengths[index]]
        if fitting:
            packs[min(fitting)[1]].append(index)
        else:
            packs.append([index])
    return packs


@given(LENGTHS, st.integers(50, 200))
def test_each_row_is_in_one_pack_and_packs_are_as_full_as_by_the_rule(lengths: list[int], capacity: int) -> None:
    packs = best_fit(lengths, capacity)
    assert sorted(chain.from_iterable(packs)) == list(range(len(lengths)))
    filled = [sum(lengths[n] for n in pack) for pack in packs]
    assert max(filled) <= capacity
    slow = [sum(lengths[n] for n in pack) for pack in slow_best_fit(lengths, capacity)]
    assert sorted(filled) == sorted(slow)
    assert all(a + b > capacity for a, b in combinations(sorted(filled), 2))  # no two packs would go into one


def test_a_realistic_mixture_is_filled_to_97_percent() -> None:
    chance = random.Random(1)
    lengths = [min(2048, max(8, int(chance.lognormvariate(5.5, 0.9)))) for _ in range(20_000)]
    packs = best_fit(lengths, 2048)
    assert sum(lengths) / (len(packs) * 2048) > 0.97


@given(st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=6), min_size=1, max_size=4), st.integers(0, 3))
def test_a_pack_says_which_row_each_token_is_of(rows: list[list[int]], room: int) -> None:
    made = _pack([(ids, ids) for ids in rows], sum(map(len, rows)) + room)
    assert len({len(column) for column in made.values()}) == 1
    for number, ids in enumerate(rows, 1):
        own = [n for n, mask in enumerate(made["attention_mask"]) if mask == number]
        assert own == list(range(own[0], own[0] + len(ids)))
        assert [made["input_ids"][n] for n in own] == ids
        assert [made["position_ids"][n] for n in own] == list(range(len(ids)))
        assert [made["labels"][n] for n in own] == [IGNORE, *ids[1:]]
    filled = [made["labels"][n] for n, mask in enumerate(made["attention_mask"]) if not mask]
    assert filled == [IGNORE] * room


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(1, 99), max_size=30), max_size=8), st.integers(2, 12))
def test_blocks_hold_every_token_in_order(documents: list[list[int]], length: int) -> None:
    blocks = list(_blocks(documents, length))
    whole = list(chain.from_iterable(documents))
    found = list(chain.from_iterable(blocks))
    assert all(len(block) == length for block in blocks[:-1])
    assert found == whole or (found == whole[:-1] and len(whole) % length == 1)  # one token alone is told from nothing
