"""Damaged data files end in rows or in an error with a place; where rows come back, plain readers find them too."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import random
import re
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from recipes.encode import BadRow
from runner.data.formats import convert, detect
from runner.data.read import BadData, Row, read
from runner.data.spec import source_of

EXAMPLES = 3000 if os.environ.get("RECIPE_THOROUGH") else 150
PLAIN = source_of("rows.jsonl")

TEXT = st.one_of(
    st.sampled_from(["What is APR?", "中文", "a,b;c\t\"d'\n e", "<|im_end|>", "", " ", "[1, 2]"]), st.text(max_size=9)
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": TEXT},
    optional={"weight": st.sampled_from([0, 1, None]), "name": TEXT},
)
ROW = st.one_of(
    st.fixed_dictionaries({"instruction": TEXT, "input": TEXT, "output": TEXT}),
    st.fixed_dictionaries({"prompt": TEXT, "response": TEXT}),
    st.fixed_dictionaries({"messages": st.lists(MESSAGE, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"prompt": TEXT, "chosen": TEXT, "rejected": TEXT, "score": st.floats()}),
    st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT, "label": st.sampled_from([True, 0, 1.0, "x", None])}),
)
PIECES = [
    b"", b" ", b"\n", b"\r", b"\r\n", b",", b";", b"\t", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b":", b"\0",
    b"\xff", b"\xef\xbb\xbf", b"NaN", b"Infinity", b"-", b"1e999", b"null", b"true", b"[]", b"\\ud83d", b"[" * 3000,
    b"9" * 5000, b'{"a": 1}', b'"output": 1, "output": 2', "é".encode(), "é".encode("latin-1"), b"\x1f\x8b", b"PAR1",
]  # fmt: skip


def damaged(data: bytes, choose: random.Random) -> bytes:
    """With a few cuts, insertions, deletions, doublings, lines exchanged, or encoded otherwise."""
    for _ in range(choose.choice([0, 1, 1, 2, 3])):
        kind = choose.choice(["cut", "insert", "replace", "delete", "double", "swap", "twice", "encode", "structure"])
        one, other = sorted((choose.randint(0, len(data)), choose.randint(0, len(data))))
        if kind == "cut":
            data = data[:other]
        elif kind == "insert":
            data = data[:one] + choose.choice(PIECES) + data[one:]
        elif kind == "replace":
            data = data[:one] + choose.choice(PIECES) + data[one + choose.randint(1, 4) :]
        elif kind == "delete":
            data = data[:one] + data[other:]
        elif kind == "double":
            data = data[:other] + data[one:]
        elif kind == "twice":
            data += choose.choice([b"", b"\n"]) + data
        elif kind == "swap":
            data = b"\n".join(choose.sample(data.split(b"\n"), data.count(b"\n") + 1))
        elif kind == "encode":
            codec = choose.choice(["utf-16", "utf-16-le", "utf-8-sig", "latin-1"])
            data = data.decode("utf-8", "replace").encode(codec, "replace")
        elif places := [n for n, byte in enumerate(data) if byte in b',[]{}":\n']:
            place = choose.choice(places)
            data = data[:place] + data[place + 1 :]
    return data


def layout(rows: list[dict[str, Any]], kind: str) -> tuple[str, bytes]:
    """The rows as a valid file of a kind: its name and its bytes."""
    if kind == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]), extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
        return "a.csv", out.getvalue().encode("utf-8", "surrogatepass")
    if kind == "array":
        return "a.json", json.dumps(rows).encode()
    if kind == "pretty":
        return "a.json", json.dumps(rows, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if kind == "under":
        return "a.json", json.dumps({"version": 1, "rows of it": rows}, indent=len(rows) % 2 or None).encode()
    if kind == "text":
        text = "\n\n".join(json.dumps(row, indent=1, ensure_ascii=False) for row in rows)
        return "a.txt", text.encode("utf-8", "surrogatepass")
    if kind == "object":
        return "a.json", json.dumps(rows[0], indent=1).encode()
    return "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()


def outcome(path: Path, **fields: Any) -> list[Row] | str:
    try:
        return list(read(source_of(path, **fields)))
    except BadData as error:
        return str(error)


def same(one: Any, other: Any) -> bool:
    """Equal, types and NaN and all."""
    return repr(one) == repr(other)


def plain(text: str) -> Any:
    """What the standard library makes of a text: the value, or ValueError or RecursionError as a value."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return error


def explained(problem: str) -> bool:
    """What we refuse and `json` takes."""
    return "stands twice" in problem or "digits" in problem or problem == "nested too deep"


def check_lines(found: list[Row], text: str) -> None:
    lines = {str(n): line for n, line in enumerate(text.split("\n"), 1) if line.strip(" \t\r\n")}
    assert [row.where for row in found] == list(lines)
    for row, line in zip(found, lines.values(), strict=True):
        value = plain(line)
        if row.problem:
            assert isinstance(value, Exception) or explained(row.problem)
        else:
            assert same(row.value, value)


def check_whole(found: list[Row], value: Any) -> None:
    """An array, the rows under a key, or the one object of a file."""
    expected = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and "(row" in "".join(row.where for row in found):
        expected = next(rows for rows in value.values() if isinstance(rows, list) and len(rows) == len(found))
    if isinstance(value, Exception):
        assert any(row.problem and explained(row.problem) for row in found)
        return
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert explained(row.problem) if row.problem else same(row.value, wanted)


def one_object(found: list[Row], text: str) -> bool:
    return len(found) <= 1 and isinstance(plain(text), dict)


def check_csv(found: list[Row], text: str) -> None:
    header = re.split("[\r\n]", text)[0]
    delimiter = "," if "," in header else max(";\t|", key=header.count) if set(header) & set(";\t|") else ","
    cells = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter) if row]
    assert len(found) == max(0, len(cells) - 1)
    for row, values in zip(found, cells[1:], strict=True):
        if row.problem:
            assert len(values) != len(cells[0])
        else:
            assert row.value == dict(zip(cells[0], values, strict=True))


def check_text(found: list[Row], text: str) -> None:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    wanted = [list(group) for blank, group in groupby(lines, lambda line: not line.strip()) if not blank]
    assert [row.value for row in found] == [{"text": "\n".join(group)} for group in wanted]
    assert [lines[int(row.where) - 1] for row in found] == [group[0] for group in wanted]


def decoded(data: bytes) -> str | None:
    """A whole text as UTF-8, or as what its byte order mark says."""
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    codec = next((name for mark, name in marks.items() if data.startswith(mark)), "utf-8-sig")
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def check(path: Path, data: bytes) -> None:
    found = outcome(path)
    text = decoded(data)
    if isinstance(found, str):
        event("refused")
        assert found.startswith(str(path)), "the place comes first"
        if text is not None and path.suffix == ".json" and "not JSON" in found:
            assert isinstance(plain(text), Exception), f"json reads it: {found}"
        return
    event("read")
    assert text is not None
    start = text.lstrip(" \t\r\n\x0b\x0c")
    if path.suffix == ".csv":
        check_csv(found, text)
    elif path.suffix == ".txt":
        check_text(found, text)
    elif start.startswith("[") or "(row" in "".join(r.where for r in found) or one_object(found, text):
        check_whole(found, plain(text))
    else:
        check_lines(found, text)
    for row in found:
        assert row.place.startswith(f"{path}:")
        for method in ("sft", "dpo", "kto", "grpo") if not row.problem else ():
            try:
                canonical = convert(row.value, detect(row.value, method), PLAIN).row
            except BadRow as error:
                assert str(error)
            else:
                json.dumps(canonical, ensure_ascii=False).encode()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ROW, min_size=1, max_size=4), st.integers(0, 1 << 32))
def test_damaged_files(rows: list[dict[str, Any]], seed: int) -> None:
    choose = random.Random(f"{seed} {rows}")  # hypothesis's own choices are mostly the simplest
    name, content = layout(rows, choose.choice(["lines", "array", "pretty", "object", "under", "csv", "text"]))
    content = damaged(content, choose)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        check(path, content)


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4), st.integers(0, 1 << 32))
def test_damaged_gzip(rows: list[dict[str, Any]], seed: int) -> None:
    """Damage is told, or what is unpacked is what went in."""
    name, content = layout(rows, "lines")
    packed = gzip.compress(content)
    packed = damaged(packed, random.Random(f"{seed} {rows}"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.gz"
        path.write_bytes(packed)
        found = outcome(path)
        if isinstance(found, str):
            assert found.startswith(str(path))
        else:
            check_lines(found, gzip.decompress(packed).decode("utf-8-sig"))
