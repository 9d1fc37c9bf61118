"""Conversations that do not alternate: what is made of them does, and loses no word before the last reply."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.encode import BadRow
from runner.data.formats import convert
from runner.data.irregular import CUT, JOINED, MOVED, Irregular, regular
from runner.data.spec import source_of

ROLES = {"s": "system", "u": "user", "a": "assistant"}
Turns = list[dict[str, Any]]


def talk(roles: str) -> Turns:
    """Each turn says its own number, so that a lost or moved one is seen."""
    return [{"role": ROLES[role], "content": f"<{n}>"} for n, role in enumerate(roles)]


def said(turns: Turns) -> list[tuple[str, str]]:
    return [(turn["role"][0], turn["content"].replace("\n\n", "")) for turn in turns]


@pytest.mark.parametrize(
    ("roles", "message", "merged", "notes"),
    [
        ("uua", "messages[1]: two user turns in a row", [("u", "<0><1>"), ("a", "<2>")], [JOINED]),
        ("uaa", "messages[2]: two assistant turns in a row", [("u", "<0>"), ("a", "<1><2>")], [JOINED]),
        ("ssua", "messages[1]: two system turns in a row", [("s", "<0><1>"), ("u", "<2>"), ("a", "<3>")], [JOINED]),
        ("usa", "messages[1]: a system turn in the middle", [], []),
        ("uasua", "messages[2]: a system turn", [("u", "<0>"), ("a", "<1>"), ("u", "<2><3>"), ("a", "<4>")], [MOVED]),
        ("uau", "messages ends on a user turn", [("u", "<0>"), ("a", "<1>")], [CUT]),
        ("uaus", "messages[3]: a system turn in the middle", [("u", "<0>"), ("a", "<1>")], [CUT]),
    ],
)  # fmt: skip
def test_each_kind(roles: str, message: str, merged: list[tuple[str, str]], notes: list[str]) -> None:
    row = {"messages": talk(roles)}
    with pytest.raises(BadRow) as error:
        convert(row, "messages", source_of("r"))
    assert str(error.value).startswith(message) and "data.irregular: merge" in str(error.value)
    with pytest.raises(Irregular):
        convert(row, "messages", source_of("r"), "drop")
    if roles == "usa":  # the words of the system have no turn after them to go to
        with pytest.raises(BadRow, match="no turn of a user after it"):
            convert(row, "messages", source_of("r"), "merge")
        return
    found = convert(row, "messages", source_of("r"), "merge")
    assert said(found.row["messages"]) == merged and found.notes == notes


@given(st.text(alphabet="sua", min_size=1, max_size=9))
def test_what_is_merged_alternates_and_keeps_every_word_before_the_last_reply(roles: str) -> None:
    turns = talk(roles)
    try:
        found, done = regular(turns, "merge", "messages", reply=True)
    except BadRow:
        assert "a" not in roles or re.search("s+a", roles[1 : roles.rindex("a") + 1])
        return
    kept = [turn["role"] for turn in found]
    assert all(x != y for x, y in pairwise(kept))
    assert "system" not in kept[1:] and kept[-1] == "assistant"
    words = "".join(turn["content"] for turn in found).replace("\n\n", "")
    assert words == "".join(turn["content"] for turn in turns[: roles.rindex("a") + 1])
    assert (done == []) == (found == turns)


def test_results_of_tools_may_stand_in_a_row_and_calls_are_joined() -> None:
    calls = [{"role": "assistant", "content": text, "tool_calls": [n]} for n, text in ((1, ""), (2, "x"))]
    turns = [*talk("u"), *calls]
    found, _ = regular(turns, "merge", "m", reply=True)
    assert found[-1] == {"role": "assistant", "content": "x", "tool_calls": [1, 2]}
    results = [*turns[:2], {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, *talk("a")]
    assert regular(results, "error", "m", reply=True) == (results, [])
