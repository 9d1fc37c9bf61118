"""Readers: every format, a row at a time, and a malformed one named by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.data import read as module
from runner.data.read import BadData, read


def source(path: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "split": "train", "subset": None, "revision": None, "max_samples": None, **more}


def rows(path: Path, **more: Any) -> list[tuple[int, Any]]:
    return [(row.number, row.value) for row in read(source(path, **more))]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": "中"}\n')) == [(1, {"a": 1}), (3, {"a": "中"})]


def test_a_json_array_of_any_layout(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "a.json", '\n[{"a": 1},\n {"a":\n 2}, {"a": 3}\n]\n')) == [
        (2, {"a": 1}),
        (3, {"a": 2}),
        (4, {"a": 3}),
    ]


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_a_json_array_is_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    wanted = [{"n": n, "text": "x" * n, "deep": [{"中": n}]} for n in range(20)]
    assert [value for _, value in rows(write(tmp_path / "a.json", json.dumps(wanted, indent=1)))] == wanted


def test_json_lines_under_the_name_json(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "a.json", '{"a": 1}\n{"a": 2}\n')) == [(1, {"a": 1}), (2, {"a": 2})]


def test_csv_with_cells_that_span_lines(tmp_path: Path) -> None:
    text = 'q,a\none,"1\nline two"\ntwo,2\n'
    assert rows(write(tmp_path / "a.csv", text)) == [(2, {"q": "one", "a": "1\nline two"}), (4, {"q": "two", "a": "2"})]


def test_a_directory_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", '{"n": 2}')
    write(tmp_path / "a.csv", "n\n1\n")
    write(tmp_path / "notes.txt", "not data")
    assert [value["n"] for _, value in rows(tmp_path)] == ["1", 2]


def test_max_samples_takes_the_first(tmp_path: Path) -> None:
    assert len(rows(write(tmp_path / "a.jsonl", '{"a": 1}\n' * 5), max_samples=2)) == 2


@pytest.mark.parametrize(
    "name,text,place",
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n', "a.jsonl:2: not JSON"),
        ("a.json", '[{"a": 1},\n{"a" 2}]', "a.json:2: not JSON"),
        ("a.json", '[{"a": 1},\n{"a": 2}', "a.json:2: not JSON"),
        ("a.csv", "q,a\n1,2,3\n", "a.csv:2: 3 cells, the header has 2"),
        ("a.csv", "q,a\n1,2\n1\n", "a.csv:3: 1 cells, the header has 2"),
        ("a.csv", 'q,a\n"1,2\n', "a.csv:2: not CSV"),
        ("a.txt", "x", "cannot read .txt; allowed: .json, .jsonl, .csv, .parquet"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, place: str) -> None:
    with pytest.raises(BadData, match=place.replace(".", r"\.")):
        rows(write(tmp_path / name, text))


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(BadData, match="not UTF-8"):
        rows(tmp_path / "a.jsonl")


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no json, jsonl, csv or parquet file"):
        rows(tmp_path)
