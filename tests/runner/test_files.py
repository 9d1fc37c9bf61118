"""Files as people have them: packed, in other encodings, of other delimiters, plain text, by patterns."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import tempfile
import tracemalloc
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes import UserError
from runner.data.encoding import guesses
from runner.data.read import BadData, files_of, read
from runner.data.spec import source_of
from runner.scoring.rows import canonical

ENCODED = {
    "gb18030": "什么是年利率？请用简单的话解释一下。",
    "big5": "什麼是年利率？請用簡單的話解釋一下。",
    "shift_jis": "年利率とは何ですか？簡単に説明してください。",
    "euc_kr": "연이율은 무엇입니까? 쉽게 설명해 주세요.",
    "cp1252": "Qu’est-ce que le taux à l’année ? Où est-il déjà écrit ?",
    "cp1251": "Что такое годовая ставка? Объясните просто.",
}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff\x00"), max_size=30)


def rows(path: Path, **more: Any) -> list[tuple[str, Any]]:
    return [(row.where, row.problem or row.value) for row in read(source_of(path, **more))]


def values(path: Path, **more: Any) -> list[Any]:
    return [row.value for row in read(source_of(path, **more))]


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(BadData) as caught:
        rows(path, **more)
    return str(caught.value)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"prompt": TEXT, "n": st.integers()}), max_size=5),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "gb18030"]),
    st.sampled_from(["a.jsonl", "a.JSONL.gz", "a.json", "a.ndjson", "a.CSV.GZ", "a.tsv"]),
)
def test_any_encoding_gives_the_rows_that_went_in(wanted: list[dict[str, Any]], encoding: str, name: str) -> None:
    kind = name.lower().split(".")[1]
    if kind in ("csv", "tsv"):
        wanted = [
            {key: str(value).replace("\0", "").replace("\r", "\n") for key, value in row.items()} for row in wanted
        ]
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, ["prompt", "n"], delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(wanted)
        text = out.getvalue()
    elif kind == "json":
        text = json.dumps(wanted, ensure_ascii=False)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in wanted)
    data = text.encode(encoding)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / name, gzip.compress(data) if name.lower().endswith("gz") else data)
        by_mark = encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
        assert values(path, encoding=encoding) == wanted
        if by_mark:
            assert values(path) == wanted


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_a_wrong_encoding_is_told_with_the_right_one(tmp_path: Path, encoding: str, name: str) -> None:
    row = {"prompt": ENCODED[encoding]}
    text = {
        "a.jsonl": json.dumps(row, ensure_ascii=False),
        "a.json": json.dumps([row], ensure_ascii=False),
        "a.csv": f"prompt\n{row['prompt']}\n",
        "a.txt": row["prompt"],
    }[name]
    path = write(tmp_path / name, text.encode(encoding))
    shown = refusal(path)
    assert f"set the source's encoding: {encoding}, or iconv -f {encoding.upper()}" in shown
    assert row["prompt"][:5] in shown, "with what it makes of the text"
    found = values(path, encoding=encoding)
    assert found == [{"text": text} if name == "a.txt" else row]


def test_a_guess_needs_no_whole_character_at_its_end() -> None:
    whole = ENCODED["gb18030"].encode("gb18030")
    assert next(iter(guesses(whole[:-1]))) == "gb18030"
    assert guesses(b"\x81") == {}


def test_a_wrong_encoding_that_is_given_is_told_with_the_line(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"q": text}, ensure_ascii=False) + "\n" for text in ["a", "中文", "é"] * 9_000)
    path = write(tmp_path / "a.jsonl", lines.encode() + b"\xff\xff")
    assert "a.jsonl:27001: not UTF-8 (byte 0xff), though what stands before is" in refusal(path)
    assert re.search(r"a.jsonl:2: not ascii \(byte 0xe4\)", refusal(path, encoding="ascii"))
    wide = write(tmp_path / "b.jsonl", lines.encode("utf-16") + b"\n")
    assert "b.jsonl:27001: not utf-16-le (byte 0x0a)" in refusal(wide)
    plain = write(tmp_path / "c.jsonl", lines.encode("utf-16-be"))
    assert "is UTF-16 without a byte order mark; set the source's encoding: utf-16-be" in refusal(plain)


def test_text_in_another_encoding_streams(tmp_path: Path) -> None:
    line = json.dumps({"q": "中" * 5_000}, ensure_ascii=False) + "\n"
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(line.encode("utf-16-le") * 4_000, 1))
    tracemalloc.start()
    assert sum(1 for _ in read(source_of(path, encoding="utf-16-le"))) == 4_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20, "of 40 MB"


@pytest.mark.parametrize("delimiter", [*"|:^~ ,\t\x01¦"])
def test_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    text = f'q{delimiter}"a, or; b"\n1{delimiter}"2{delimiter}3"\n'
    found = values(write(tmp_path / "a.csv", text.encode()), delimiter=delimiter)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    assert found == list(reader) == [{"q": "1", "a, or; b": f"2{delimiter}3"}]


def test_a_delimiter_is_told_from_name_and_header(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.tsv", b"name, first\tn\nx\t1\n")) == [{"name, first": "x", "n": "1"}]
    assert values(write(tmp_path / "b.tsv", b"q,n\nx,1\n")) == [{"q": "x", "n": "1"}]
    assert values(write(tmp_path / "c.csv", b"q|n\nx|1\n")) == [{"q": "x", "n": "1"}]
    assert values(write(tmp_path / "d.csv", b"q\nx|1\n")) == [{"q": "x|1"}]


LINES = st.lists(st.one_of(st.sampled_from(["", " ", "\t", "\u3000", "a", " b ", "中 文", "\x0c"]), TEXT), max_size=12)


@settings(max_examples=150, deadline=None)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_text_by_paragraphs_lines_and_as_a_whole(found: list[str], end: str, last: bool) -> None:
    lines = [line.replace("\n", "").replace("\r", "") for line in found]
    text = end.join(lines) + (end if last else "")
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.txt", text.encode())
        by_line = [(str(n), {"text": line}) for n, line in enumerate(lines, 1) if line.strip()]
        assert rows(path, text="line") == by_line
        groups = [list(g) for full, g in groupby(enumerate(lines, 1), lambda item: bool(item[1].strip())) if full]
        assert rows(path) == [(str(g[0][0]), {"text": "\n".join(line for _, line in g)}) for g in groups]
        whole = text.replace("\r\n", "\n").removesuffix("\n")
        assert rows(path, text="file") == ([("1", {"text": whole})] if whole.strip() else [])


@pytest.mark.parametrize("by", ["paragraph", "line", "file"])
def test_text_over_the_limit_is_named_and_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    monkeypatch.setattr("runner.data.row.LIMIT", 1 << 20)
    monkeypatch.setattr("runner.data.text_rows.LIMIT", 1 << 20)
    one = b"x" * (5 << 20) if by == "line" else (b"x" * 63 + b"\n") * (5 << 14)
    path = write(tmp_path / "a.txt", b"a\n\n" + one + b"\n\nb\n")
    tracemalloc.start()
    found = rows(path, text=by)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    problem = f"a {by} of more than 64 MB"
    assert [value for _, value in found] == ([problem] if by == "file" else [{"text": "a"}, problem, {"text": "b"}])
    assert found[0][0] == "1" and peak < 45 << 20


def test_a_directory_of_mixed_compressions_in_capitals(tmp_path: Path) -> None:
    write(tmp_path / "TRAIN-1.JSONL", b'{"n": 1}\n')
    write(tmp_path / "Train-2.Jsonl.GZ", gzip.compress(b'{"n": 2}\n'))
    write(tmp_path / "train-3.CSV.gz", gzip.compress("n\n3\n".encode("utf-16")))
    write(tmp_path / "TEST.JSON.GZ", gzip.compress(b'{"rows": [{"n": 4}]}'))
    assert [int(value["n"]) for value in values(tmp_path)] == [1, 2, 3]
    assert values(tmp_path, split="test") == [{"n": 4}]
    chosen = files_of(source_of(tmp_path))[0]
    assert chosen and {name: [file.name for file in files] for name, files in chosen.left_out.items()} == {
        "test": ["TEST.JSON.GZ"]
    }


def test_a_pattern_reads_the_files_whose_names_are_like_it(tmp_path: Path) -> None:
    for n, name in enumerate(["a.jsonl", "b.jsonl", "c.csv", "sub/d.jsonl", ".hidden.jsonl", "dataset_info.json"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, f"n\n{n}\n".encode() if name.endswith("csv") else f'{{"n": {n}}}'.encode())
    assert [value["n"] for value in values(tmp_path / "*.jsonl")] == [0, 1]
    assert [value["n"] for value in values(tmp_path / "[ab].json?")] == [0, 1]
    assert [value["n"] for value in values(tmp_path / "**/*.jsonl")] == [0, 1, 3]
    assert [value["n"] for value in values(tmp_path / "s*")] == [3]
    assert "no data file has such a name" in refusal(tmp_path / "*.parquet")
    literal = tmp_path / "x[1].jsonl"
    write(literal, b'{"n": 9}')
    assert values(literal) == [{"n": 9}], "a file that is called so is no pattern"


def test_a_truncated_gzip_is_told_after_its_rows(tmp_path: Path) -> None:
    """Whatever is asked of it first: a csv, rows under a key, text, an encoding."""
    for name, data in [
        ("a.csv.gz", b"n\n" + b"1\n" * 9999),
        ("a.json.gz", b'{"data": [' + b'{"n": 1},\n' * 9999 + b'{"n": 1}]}'),
        ("a.txt.gz", b"a\n\n" * 9999),
        ("a.jsonl.gz", ('{"n": 1}\n' * 9999).encode("utf-16")),
    ]:
        packed = gzip.compress(data, mtime=0)
        assert len(rows(write(tmp_path / name, packed))) >= 9999
        for cut in (len(packed) // 2, len(packed) - 4):
            assert f"{name}: damaged gzip" in refusal(write(tmp_path / name, packed[:cut]))


def test_what_pyarrow_reads_says_so_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the tool's own environment; tests/real reads such files where it is."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("a.jsonl.zst", "a.parquet", "a.arrow"):
        with pytest.raises(UserError, match=rf"{name}: parquet, Arrow and .zst are read inside a run only"):
            canonical(write(tmp_path / name, b""), tmp_path / "out.jsonl")


def test_scoring_reads_what_a_recipe_reads(tmp_path: Path) -> None:
    row = {"prompt": "q", "response": "é"}
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "a.JSON.gz", gzip.compress(json.dumps({"data": [row]}).encode("utf-16")))
    write(folder / "b.csv", "prompt;response\nq;é\n".encode())
    for path in (folder / "a.JSON.gz", folder / "*.csv", folder):
        lines = canonical(path, tmp_path / "rows").read_text().splitlines()
        assert {json.loads(line)["messages"][-1]["content"] for line in lines} == {"é"}
