"""Complaints: equal ones are folded, none is lost, and what they quote can be written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data import notes
from runner.data.notes import Complaints


def test_equal_complaints_are_one_line_with_the_first_place() -> None:
    complaints = Complaints()
    for line in (7, *range(8, 220)):
        complaints.add(f"a.jsonl:{line}", f"messages[{line % 3}]: the reply is empty")
    complaints.add("a.jsonl:400", "no 'output'")
    assert complaints.lines() == [
        "a.jsonl:7: messages[1]: the reply is empty … and 212 more rows like this",
        "a.jsonl:400: no 'output'",
    ]


@given(st.lists(st.sampled_from([f"reason {word}" for word in "abcdefghijklmnopqrstuvwxyz"]), max_size=90))
def test_every_bad_row_is_in_the_count(texts: list[str]) -> None:
    complaints = Complaints()
    for number, text in enumerate(texts):
        complaints.add(f"a:{number}", text)
    told = 0
    for line in complaints.lines():
        more = re.search(r"… and (\d+) (more )?row", line)
        told += int(more[1]) if more else 0
        told += not line.startswith("…")
    assert told == len(texts)
    assert len(complaints.lines()) <= notes.KINDS + 1


def test_so_many_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "ROWS", 3)
    complaints = Complaints()
    for number in range(3):
        assert not complaints.full
        complaints.add(f"a:{number}", "bad")
    assert complaints.full
    assert complaints.lines()[-1] == "stopped at 3 rows that cannot be used"


def test_half_a_character_in_a_complaint_can_be_written() -> None:
    complaints = Complaints()
    complaints.add("a:1", "no column 'x'; it has \ud83d")
    assert complaints.lines() == ["a:1: no column 'x'; it has \\ud83d"]
