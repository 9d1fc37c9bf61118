"""Any data format becomes canonical rows for scoring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes import UserError
from runner.scoring.rows import canonical


@pytest.mark.parametrize(
    "row,keys",
    [
        ({"instruction": "q", "output": "a"}, ["messages"]),
        ({"prompt": "q", "response": "a"}, ["messages"]),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, ["messages"]),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, ["prompt", "chosen", "rejected"]),
        ({"prompt": "q", "completion": "a", "label": True}, ["prompt", "completion", "label"]),
        ({"prompt": "q", "answer": "a"}, ["prompt", "answer"]),
    ],
)
def test_a_format_is_told_from_the_first_row(row: dict[str, Any], keys: list[str], tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(row) + "\n")
    written = canonical(source, tmp_path / "out" / "rows.jsonl").read_text()
    assert list(json.loads(written)) == keys
    again = canonical(tmp_path / "out" / "rows.jsonl", tmp_path / "again.jsonl").read_text()
    assert again == written, "canonical rows stay as they are"


def test_a_bad_row_is_named_by_line(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"instruction": "q", "output": "a"}\n{"instruction": "q"}\n')
    with pytest.raises(UserError, match=r"rows.jsonl:2: no 'output'"):
        canonical(source, tmp_path / "out.jsonl")


def test_a_row_that_cannot_be_read_is_named_by_line(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"instruction": "q", "output": "a"}\n{"instruction": "q", "instruction": "r", "output": "a"}\n')
    with pytest.raises(UserError, match=r"rows.jsonl:2: key 'instruction' stands twice"):
        canonical(source, tmp_path / "out.jsonl")


def test_a_directory_of_several_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/test.jsonl").write_text('{"instruction": "q", "output": "a"}\n')
    assert canonical(tmp_path / "d", tmp_path / "out.jsonl").read_text()
    (tmp_path / "d/train.jsonl").write_text("")
    with pytest.raises(UserError, match="holds several splits, test, train"):
        canonical(tmp_path / "d", tmp_path / "out.jsonl")


def test_a_row_with_half_a_character_stays_for_the_suite_to_count(tmp_path: Path) -> None:
    """Its neighbours are scored; a row that has another mistake as well is named."""
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows = [{"prompt": "q", "response": "cut \ud83d"}, {"prompt": "q", "response": "a"}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = [json.loads(line)["messages"][-1]["content"] for line in canonical(source, target).read_text().splitlines()]
    assert read == ["cut \ud83d", "a"]
    source.write_text(json.dumps(rows[0] | {"tools": "[x]"}) + "\n")
    with pytest.raises(UserError, match=r"rows.jsonl:1: "):
        canonical(source, target)
