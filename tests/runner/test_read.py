"""Readers: every format, a row at a time, and what is malformed named by file and line."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.columns import COLUMNS_OF_FORMAT
from runner.data import json_cursor, row
from runner.data.read import BadData, Row, at_random, files_of, read
from runner.data.spec import source_of


def rows(path: Path, **more: Any) -> list[tuple[str, Any]]:
    """Where each row stands, and its value or what is wrong with it."""
    return [(row.where, row.problem or row.value) for row in read(source_of(path, **more))]


def refusal(path: Path) -> str:
    with pytest.raises(BadData) as caught:
        rows(path)
    return str(caught.value)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_json_lines(tmp_path: Path) -> None:
    found = rows(write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": "中\u2028"}\r\n {"a": 3} \n'))
    assert found == [("1", {"a": 1}), ("3", {"a": "中\u2028"}), ("4", {"a": 3})]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.NDJSON"])
def test_an_array_and_lines_are_told_apart_by_what_the_file_holds(tmp_path: Path, name: str) -> None:
    assert rows(write(tmp_path / name, '\n[{"a": 1},\n {"a":\n 2}, {"a": 3}\n]\n')) == [
        ("2 (row 1)", {"a": 1}),
        ("3 (row 2)", {"a": 2}),
        ("4 (row 3)", {"a": 3}),
    ]
    assert rows(write(tmp_path / name, '{"a": 1}\n{"a": 2}\n')) == [("1", {"a": 1}), ("2", {"a": 2})]
    assert rows(write(tmp_path / name, " [ ]\n")) == rows(write(tmp_path / name, "\n")) == []


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_a_json_array_is_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_cursor, "CHUNK", chunk)
    wanted = [{"n": n, "text": 'x\\"[' * n, "deep": [{"中": n}]} for n in range(20)] + [12345, "a", 1.5e3, None]
    assert [value for _, value in rows(write(tmp_path / "a.json", json.dumps(wanted, indent=1)))] == wanted


def test_csv_with_cells_that_span_lines(tmp_path: Path) -> None:
    text = 'q,a\n\none,"1\nline two"\ntwo,2\n'
    found = rows(write(tmp_path / "a.csv", text))
    assert found == [("3", {"q": "one", "a": "1\nline two"}), ("5", {"q": "two", "a": "2"})]


@pytest.mark.parametrize(
    "text,line",
    [
        ('"the q, whole";a\n"1;2";3\n', "2"),
        ('sep=|\r\n"the q, whole"|a\r\n1;2|3\r\n', "3"),
        ('\ufeff\n\nsep=;\n"the q, whole";a\n\n"1;2";3\n', "6"),
        ('"the q, whole",a\n1;2,3\n', "2"),
        ('"the q, whole"\ta\n1;2\t3\n', "2"),
    ],
)
def test_a_csv_says_what_stands_between_its_cells(tmp_path: Path, text: str, line: str) -> None:
    assert rows(write(tmp_path / "a.csv", text)) == [(line, {"the q, whole": "1;2", "a": "3"})]


@pytest.mark.parametrize("name,cell", [("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "\t")])
def test_csv_of_other_delimiters(tmp_path: Path, name: str, cell: str) -> None:
    text = f'\ufeffq{cell}"a"\r\n"1{cell}0, or so"{cell}2\r\n'
    assert rows(write(tmp_path / name, text)) == [("2", {"q": f"1{cell}0, or so", "a": "2"})]


def test_gzip(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "a.jsonl.gz", gzip.compress(b'{"a": 1}\n', mtime=0))) == [("1", {"a": 1})]
    assert rows(write(tmp_path / "b.JSON.gz", gzip.compress(b'[{"a": 1}]', mtime=0))) == [("1 (row 1)", {"a": 1})]
    assert rows(write(tmp_path / "c.csv.gz", gzip.compress(b"a\n1\n", mtime=0))) == [("2", {"a": "1"})]
    assert "damaged gzip" in refusal(write(tmp_path / "a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999, mtime=0)[:-20]))
    assert "damaged gzip" in refusal(write(tmp_path / "a.jsonl.gz", b'{"a": 1}\n'))


def test_a_directory_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", '{"n": 2}')
    write(tmp_path / "a.csv", "n\n1\n")
    assert [value["n"] for _, value in rows(tmp_path)] == ["1", 2]
    files = files_of(source_of(tmp_path))[0]
    assert files and [file.name for file in files.files] == ["a.csv", "b.jsonl"]


def test_a_directory_is_read_by_its_split(tmp_path: Path) -> None:
    write(tmp_path / "train_prefs.jsonl", '{"n": 1}')
    write(tmp_path / "test_prefs.jsonl", '{"n": 2}')
    assert [value for _, value in rows(tmp_path, split="train_prefs")] == [{"n": 1}]
    assert [value for _, value in rows(tmp_path, split="test_prefs")] == [{"n": 2}]


def test_max_samples_takes_the_first(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", "".join(f'{{"a": {n}}}\n' for n in range(5)))
    for wanted, found in {2: 2, 9: 5, 0.5: 2, 0.7: 4, 0.01: 1, 0.99: 5}.items():  # half a row is rounded to an even one
        assert [value["a"] for _, value in rows(file, max_samples=wanted)] == list(range(found)), wanted


@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 9))
def test_rows_at_random_are_so_many_in_their_order(count: int, wanted: int, seed: int) -> None:
    every = [Row("f", str(n), n, beside=("x",) if not n else ()) for n in range(count)]
    found = list(at_random(every, count, wanted, seed))
    assert [row.value for row in found] == sorted({row.value for row in found})
    assert len(found) == min(count, wanted)
    assert [row.beside for row in found] == [("x",), *[()] * (len(found) - 1)][: len(found)]
    assert found == list(at_random(every, count, wanted, seed))


def test_every_choice_of_rows_is_as_likely() -> None:
    every = [Row("f", str(n), n) for n in range(5)]
    found = Counter(tuple(row.value for row in at_random(every, 5, 2, seed)) for seed in range(4000))
    assert sorted(found) == list(combinations(range(5), 2))
    assert all(abs(times - 400) < 100 for times in found.values()), found  # five standard deviations


def test_max_samples_at_random_are_of_all_files(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", "".join(f'{{"a": {n}}}\n' for n in range(50)))
    b = write(tmp_path / "b.csv", "a\n" + "".join(f"{n}\n" for n in range(50, 100)))
    for wanted in (20, 0.2):
        source = source_of([str(a), str(b)], max_samples=wanted, shuffle=True)
        found = [[(row.place, int(row.value["a"])) for row in read(source, seed=seed)] for seed in (1, 1, 2)]
        assert found[0] == found[1] != found[2] and len(found[2]) == 20
        assert all(place == (f"{a}:{n + 1}" if n < 50 else f"{b}:{n - 48}") for place, n in found[0])
        assert 0 < sum(n < 50 for _, n in found[0]) < 20


@pytest.mark.parametrize(
    "name,text,place",
    [
        ("a.json", '[{"a": 1},\n{"a" 2}]', "a.json:2: not JSON: Expecting ':' delimiter"),
        ("a.json", '[{"a": 1},\n{"a": 2}', "a.json:2: not JSON: the file ends inside the array"),
        ("a.json", '[{"a": 1}\n{"a": 2}]', "a.json:2: not JSON: expected ',', got '{'"),
        ("a.json", '[{"a": 1},,\n{"a": 2}]', "a.json:1: not JSON: Expecting value"),
        ("a.json", '[{"a": 1},\n]', "a.json:2: not JSON: Expecting value"),
        ("a.json", '[,{"a": 1}]', "a.json:1: not JSON: Expecting value"),
        ("a.json", '[{"a": 1}]\n\n[{"a": 2}]', "a.json:3: not JSON: text after the end of the array; a second array"),
        ("a.json", '[{"a": 1}]\nx', "a.json:2: not JSON: text after the end of the array"),
        ("a.jsonl", '[{"a": 1}]\n[{"a": 2}]', "a.jsonl:2: not JSON: text after the end of the array"),
        ("a.json", '{\n"a": 1}\n{"a": 2}', "a.json:3: not JSON: text after the end of the object"),
        ("a.json", '{\n"a": 1\n"b": 2}', "a.json:3: not JSON: Expecting ',' delimiter"),
        ("a.json", '[{"a": "\n"}]', "a.json:1: not JSON: Invalid control character"),
        ("a.csv", 'q,a\n"1,2\n', "a.csv:2: not CSV: unexpected end of data"),
        ("a.csv", "q,a,q\n1,2,3\n", "a.csv:1: column 'q' stands twice in the header"),
        ("a.xml", "x", "a.xml: cannot read .xml; allowed: json, jsonl"),
        ("a.jsonl", '{"a": 1}\n{"a": "é"}'.encode("latin-1"), "a.jsonl:2: not UTF-8 (byte 0xe9)"),
        ("a.json", '[{"a": 1},\n{"a": "é"}]'.encode("latin-1"), "a.json:1: not UTF-8 (byte 0xe9)"),
        ("a.csv", "q\ngé\n".encode("latin-1"), "a.csv:1: not UTF-8 (byte 0xe9), here or below; it may be"),
        ("a.csv", "q\né".encode("utf-16")[:-1], "a.csv:2: not utf-16-le (byte 0xe9)"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), "a.jsonl: is UTF-16"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16-be"), "a.jsonl: is UTF-16"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "a.jsonl: is gzip"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd", "a.jsonl: is zstd; let its name end in .zst"),
        ("a.csv", b"ARROW1\0\0", "a.csv: is an Arrow file; let its name end in .arrow"),
        ("a.csv", b"PK\x03\x04 excel", "a.csv: is a zip or Excel file"),
        ("a.jsonl", "version https://git-lfs.github.com/spec/v1\n", "a.jsonl: is a pointer of Git LFS"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str, text: str | bytes, place: str) -> None:
    assert f"{tmp_path}/{place}" in refusal(write(tmp_path / name, text))


@pytest.mark.parametrize(
    "bad,problem",
    [
        ('{"a": ', "not JSON: Expecting value at character 8"),
        ('{"a": 1} {"a": 2}', "not JSON: text after the end of the row at character 10"),
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes at character 2"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice in one object"),
        ('{"a": %s}' % ("9" * 5000), "a number of 5,000 digits"),
        (f'{{"a": {"[" * 5000}1{"]" * 5000}}}', "nested too deep"),
    ],
)
def test_a_row_that_cannot_be_read_leaves_those_beside_it(tmp_path: Path, bad: str, problem: str) -> None:
    found = rows(write(tmp_path / "a.jsonl", f'{{"a": 0}}\n{bad}\n{{"a": 2}}\n'))
    assert found == [("1", {"a": 0}), ("2", problem), ("3", {"a": 2})]
    if not problem.startswith("not JSON"):
        for chunk in (10, 1 << 20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(json_cursor, "CHUNK", chunk)
                array = rows(write(tmp_path / "a.json", f'[{{"a": "]"}},\n{bad},\n{{"a": 2}}]'))
            assert array == [("1 (row 1)", {"a": "]"}), ("2 (row 2)", problem), ("3 (row 3)", {"a": 2})]


def test_a_csv_row_of_other_length_leaves_those_beside_it(tmp_path: Path) -> None:
    found = rows(write(tmp_path / "a.csv", "q,a\n1,2,3\n1\n3,4\n"))
    assert found == [
        ("2", "3 cells, the header has 2"),
        ("3", "1 cells, the header has 2"),
        ("4", {"q": "3", "a": "4"}),
    ]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.JSON.gz"])
def test_rows_under_a_key_are_read(tmp_path: Path, indent: int | None, name: str) -> None:
    wanted = [{"q": "a", "type": "bridge", "answer": "x"}, {"q": 2, "parts": [{"type": "text"}]}]
    text = json.dumps({"version": "1", "note": [], "tags": ["a"], "data": wanted, "end": {"data": []}}, indent=indent)
    data = gzip.compress(text.encode(), mtime=0) if name.endswith("gz") else text.encode()
    found = list(read(source_of(write(tmp_path / name, data))))
    assert [row.value for row in found] == wanted
    lines = [text[: text.index('"q": "a"')].count("\n"), text[: text.index('"q": 2')].count("\n")]
    assert [row.where for row in found] == [f"{n + (not indent)} (row {row})" for row, n in enumerate(lines, 1)]
    beside = tuple(f"{key} (beside 'data')" for key in ("version", "note", "tags", "end"))
    assert [row.beside for row in found] == [beside, ()], "what is not read is named once"


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_under_several_keys_are_refused_with_what_reads_them(tmp_path: Path, indent: int | None) -> None:
    nested = {"version": "1", "data": [{"q": 1}, {"q": 2}], "more": [{"q": 1}]}
    shown = refusal(write(tmp_path / "a.json", json.dumps(nested, indent=indent)))
    assert "one object with rows under several keys, 'data' (2), 'more' (1)" in shown
    assert """jq -c '.["data"][]' a.json > rows.jsonl""" in shown


def test_a_row_under_a_key_that_cannot_be_read_leaves_those_beside_it(tmp_path: Path) -> None:
    text = '{"data": [{"a": 1},\n{"a": 1, "a": 2},\n{"a": 3}]}'
    assert rows(write(tmp_path / "a.json", text)) == [
        ("1 (row 1)", {"a": 1}),
        ("2 (row 2)", "key 'a' stands twice in one object"),
        ("3 (row 3)", {"a": 3}),
    ]


@pytest.mark.parametrize(
    "text,place",
    [
        ('{"data": [{"a": 1},\n{"a" 2}]}', "a.json:2: not JSON: Expecting ':' delimiter"),
        ('{"data": [{"a": 1},\n{"a": 2}', "a.json:2: not JSON: the file ends inside the array"),
        ('{"data": [{"a": 1},\n{"a": 2}]', "a.json:2: not JSON: the file ends inside the object"),
        ('{"data": [{"a": 1},\n{"a": 2}]}\n{}', "a.json:3: not JSON: text after the end of the object"),
        ('{"data": [{"a": 1},\n{"a": 2}],\n"data": 1}', "a.json:3: not JSON: key 'data' stands twice"),
        ('{"data": [{"a": 1},\n{"a": 2}],\nb: 1}', "a.json:3: not JSON: expected a key in double quotes"),
    ],
)
def test_a_broken_object_of_rows_is_named_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    assert f"{tmp_path}/{place}" in refusal(write(tmp_path / "a.json", text))


def test_json_lines_that_look_like_an_object_of_rows_stay_lines(tmp_path: Path) -> None:
    line = {"documents": [{"title": "t"}], "q": 1}
    for name in ("a.json", "a.jsonl"):
        text = f"{json.dumps(line)}\n" * 2
        assert rows(write(tmp_path / name, text)) == [("1", line), ("2", line)]
        cut = rows(write(tmp_path / name, f'{json.dumps(line)}\n{{"documents": [\n{json.dumps(line)}'))
        assert [where for where, _ in cut] == ["1", "2", "3"]
    one = write(tmp_path / "one.jsonl", json.dumps(line))
    assert rows(one, columns={"prompt": "q"}) == [("1", line)], "what the recipe calls a column is at a row's top"


@pytest.mark.parametrize("column", sorted({name for names in COLUMNS_OF_FORMAT.values() for name in names}))
def test_an_object_with_a_column_of_ours_is_one_row(tmp_path: Path, column: str) -> None:
    """A document with its annotations, say: those are no rows of their own."""
    row = {"id": 1, column: "the whole of it", "annotations": [{"text": "of it", "label": "X"}], "more": [{"a": 1}]}
    for name in ("a.json", "a.jsonl"):
        assert rows(write(tmp_path / name, json.dumps(row, indent=1 if name == "a.json" else None))) == [("1", row)]


def test_rows_under_a_key_are_never_held(tmp_path: Path) -> None:
    """A file of 40 MB on one line, and another's."""
    row = json.dumps({"q": "x" * 10_000})
    for end in ("", "\n"):
        write(tmp_path / "a.json", f'{{"data": [{f",{end}".join([row] * 4_000)}], "version": 1}}')
        tracemalloc.start()
        assert sum(1 for _ in read(source_of(tmp_path / "a.json"))) == 4_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20


@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_of_one_conversation_is_one_row(tmp_path: Path, indent: int | None) -> None:
    for value in (
        {"messages": [{"role": "user", "content": "q"}], "tools": [{"type": "function"}]},
        {"prompt": "q", "response": "a", "documents": [{"title": "t"}]},
        {"talk": [{"from": "human", "value": "q"}]},
    ):
        assert rows(write(tmp_path / "a.json", json.dumps(value, indent=indent))) == [("1", value)]


def test_a_row_over_the_limit_is_named_and_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row, "LIMIT", 1 << 20)
    monkeypatch.setattr(json_cursor, "LIMIT", 1 << 20)
    monkeypatch.setattr("runner.data.csv_rows.LIMIT", 1 << 20)
    long = b"x" * (30 << 20)
    write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": "%s"}\n{"a": 3}\n' % long)
    write(tmp_path / "a.json", b'[{"a": 1},\n{"a": "%s"},{"a": 3}]' % long)
    write(tmp_path / "a.csv", b"a\n1\n%s\n" % long)
    write(tmp_path / "quoted.csv", b'a\n1\n"%s' % (b"x\n" * (10 << 20)))
    tracemalloc.start()
    assert rows(tmp_path / "a.jsonl") == [("1", {"a": 1}), ("2", "a line of more than 64 MB"), ("3", {"a": 3})]
    assert "a.json:2: a row of more than 64 MB begins here" in refusal(tmp_path / "a.json")
    assert "a.csv:3: a line of more than 64 MB" in refusal(tmp_path / "a.csv")
    assert "quoted.csv:3: not CSV: field larger than field limit" in refusal(tmp_path / "quoted.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    assert "is a pipe, not a file" in refusal(tmp_path / "a.jsonl")
    assert "is a device, not a file" in refusal(tmp_path / "zero.csv")


def test_a_directory_without_data(tmp_path: Path) -> None:
    assert "no data in this directory" in refusal(tmp_path)
