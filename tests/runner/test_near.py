"""Near-duplicates beside a quadratic reference: none is left out that is not near, and those that are, are found."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.near import BATCH, FOUND, PERMUTATIONS, Near, band_length

WORDS = [f"word{n}" for n in range(40)]


def conversation(question: str, reply: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]}


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[n : n + 5]) for n in range(len(words) - 4)} or {tuple(words)}


def overlap(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / len(one | other)


def similarity(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The smaller of the overlaps of two whole rows and of their replies."""
    (asked, reply), (other_asked, other_reply) = (
        [grams(turn["content"]) for turn in row["messages"]] for row in (one, other)
    )
    return min(overlap(asked | reply, other_asked | other_reply), overlap(reply, other_reply))


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few rows, and copies of them with some of their words changed."""
    chance = random.Random(draw(st.integers(0, 10**6)))
    made: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(2, 25))):
        if made and chance.random() < 0.7:
            texts = [turn["content"].split() for turn in chance.choice(made)["messages"]]
            for words in texts:
                for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
                    words[chance.randrange(len(words))] = chance.choice(WORDS)
        else:
            texts = [[chance.choice(WORDS) for _ in range(chance.choice([1, 4, 5, 30, 120]))] for _ in range(2)]
        made.append(conversation(*(chance.choice([" ", ", "]).join(words) for words in texts)))
    return made


@settings(max_examples=150, deadline=None)
@given(rows(), st.sampled_from([0.5, 0.8, 0.9]))
def test_what_is_left_out_is_near_and_what_is_very_near_is_left_out(
    made: list[dict[str, Any]], threshold: float
) -> None:
    near, kept = Near(threshold), list[dict[str, Any]]()
    for row in made:
        nearest = max((similarity(row, other) for other in kept), default=0.0)
        if near.seen(row):
            assert nearest >= threshold
        else:
            assert nearest < max(threshold, 0.97)
            kept.append(row)


def test_rows_of_just_the_threshold_are_found() -> None:
    chance, found = random.Random(1), 0
    for _ in range(300):
        words = [f"word{chance.randrange(10**9)}" for _ in range(96)]
        other = list(words)
        other[chance.randrange(10, 40)] = other[chance.randrange(50, 80)] = "another"  # 10 of 92 5-grams
        one, changed = conversation("Go on.", " ".join(words)), conversation("Go on.", " ".join(other))
        assert 0.8 <= similarity(one, changed) < 0.81
        near = Near(0.8)
        assert not near.seen(one)
        found += near.seen(changed)
    assert found / 300 >= 0.97


def test_the_bands_find_what_they_promise() -> None:
    for threshold in (0.5, 0.6, 0.8, 0.95, 1.0):
        length = band_length(threshold)
        assert 1 - (1 - threshold**length) ** (PERMUTATIONS // length) >= FOUND, threshold
    assert [band_length(threshold) for threshold in (0.5, 0.8, 0.95)] == [2, 5, 10]


def test_a_book_is_compared_in_parts() -> None:
    words = [f"word{n}" for n in range(3 * BATCH)]
    near = Near(0.8)
    assert not near.seen({"text": " ".join(words)})
    assert not near.seen({"text": " ".join(words[: 2 * BATCH])})
    assert near.seen({"text": " ".join(words[100:])})


LONG = " ".join(f"paragraph {n} of one long report" for n in range(60))


@pytest.mark.parametrize(
    "one,other,near",
    [
        (conversation("What is 12 + 5?", "17"), conversation("what is 12+5", "17."), True),
        (conversation("What is 12 + 5?", "17"), conversation("What is 12 + 6?", "18"), False),
        (conversation(f"{LONG} Who?", "Ann did it."), conversation(f"{LONG} When?", "In May."), False),
        (conversation(f"{LONG} Who?", "Ann did it."), conversation(f"{LONG} And who?", "Ann did it!"), True),
        (conversation("Smile.", ":-)"), conversation("Smile.", ":-("), False),
        ({"text": LONG}, {"text": LONG + " end"}, True),
        ({"prompt": [], "completion": [{"role": "assistant", "content": LONG}], "label": True},
         {"prompt": [], "completion": [{"role": "assistant", "content": LONG}], "label": False}, False),
        ({"prompt": [{"role": "user", "content": LONG}], "answer": ""},
         {"prompt": [{"role": "user", "content": LONG + " x"}], "answer": ""}, True),
        (conversation("把「谢谢」翻译成英语，并说明怎样用。", "好的，谢谢是 thank you。"),
         conversation("把“谢谢”翻译成英语，并说明怎样用", "好的，谢谢是 thank you"), True),
    ],
)  # fmt: skip
def test_what_is_near(one: dict[str, Any], other: dict[str, Any], near: bool) -> None:
    rows = Near(0.8)
    assert not rows.seen(one) and rows.seen(other) is near
