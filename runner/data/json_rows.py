"""Rows out of JSON: one a line, or one array, whichever the file holds, strictly as JSON has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from runner.data.row import LIMIT, SHOWN_LIMIT, BadData, Row, as_text, lines, not_utf8, opened

CHUNK = 1 << 20
DIGITS = 4300  # what Python turns into a number
SPACE = re.compile(r"[ \t\r\n]*")
STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[\[\]{}]', re.DOTALL)
DEEP = "nested too deep"
# A file of one row may well hold a list of objects beside these.
OF_A_ROW = {"messages", "conversations", "instruction", "prompt", "question", "response", "answer", "chosen", "output"}


def read(path: Path) -> Iterator[Row]:
    """The rows of a file of JSON lines or of one JSON array."""
    with opened(path) as stream:
        start = stream.read(CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip()
    return _array(path) if start.startswith(b"[") else _lines(path)


class _Parser:
    """`json` with what it passes over: keys given twice, and numbers that Python refuses without their place."""

    def __init__(self) -> None:
        self.problem = ""
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_int=self._integer)

    def parse(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins at `start`, and its end; `problem` says what is wrong with it.

        Raises:
            json.JSONDecodeError, RecursionError: no value could be read.
        """
        self.problem = ""
        value, end = self._decoder.raw_decode(text, start)
        return (None if self.problem else value), end

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            names = [name for name, _ in pairs]
            self.problem = f"key {next(n for n in names if names.count(n) > 1)[:80]!r} stands twice in one object"
        return value

    def _integer(self, text: str) -> int:
        if len(text) > DIGITS:
            self.problem = f"a number of {len(text):,} digits"
            return 0
        return int(text)


def _lines(path: Path) -> Iterator[Row]:
    """Rows of JSON lines; one object over several lines is understood, to say what it is."""
    first: Row | None = None
    count = 0
    for row, whole in _each_line(path):
        count += 1
        if count == 1:
            if not whole and Path(path.name.lower().removesuffix(".gz")).suffix == ".json":
                yield _document(path)
                return
            first = row
            continue
        if first is not None:
            yield first
            first = None
        yield row
    if first is not None:
        _check_not_nested(path, first.value)
        yield first


def _each_line(path: Path) -> Iterator[tuple[Row, bool]]:
    """Each row, and whether its line holds a whole value."""
    parser = _Parser()
    with opened(path) as stream:
        for number, line in lines(stream):
            if line is None:
                yield Row(str(path), str(number), None, f"a line of {SHOWN_LIMIT}"), True
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadData(f"{path}:{number}: {not_utf8(error)}") from None
            start = _skip(text, 0)
            if start < len(text):
                value, problem, whole = _line(parser, text, start)
                yield Row(str(path), str(number), value, problem), whole


def _line(parser: _Parser, text: str, start: int) -> tuple[Any, str, bool]:
    try:
        value, end = parser.parse(text, start)
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at character {error.pos + 1}", error.pos < len(text.rstrip())
    except RecursionError:
        return None, DEEP, True
    rest = _skip(text, end)
    if rest < len(text):
        return None, f"not JSON: text after the end of the row at character {rest + 1}", True
    return value, parser.problem, True


def _skip(text: str, start: int) -> int:
    found = SPACE.match(text, start)
    return found.end() if found else start


def _document(path: Path) -> Row:
    """The one value of a file that is no array and whose first line is not whole."""
    with opened(path) as stream:
        cursor = _Cursor(as_text(stream), path)
        cursor.peek()
        line = cursor.line
        value, problem = cursor.value()
        if cursor.peek():
            raise BadData(
                f"{path}:{cursor.line}: not JSON: text after the end of the object; write one array, or one row a line"
            )
    _check_not_nested(path, value)
    return Row(str(path), str(line), value, problem)


def _check_not_nested(path: Path, value: Any) -> None:
    """Say where the rows are in a file that is one object around them."""
    if not isinstance(value, dict) or OF_A_ROW & value.keys():
        return
    rows = {key: len(item) for key, item in value.items() if _looks_like_rows(item)}
    if rows:
        key = max(rows, key=lambda k: rows[k])
        raise BadData(
            f"{path}: one object, not rows; they seem to be under "
            f"{', '.join(f'{name!r} ({count:,})' for name, count in rows.items())}; "
            f"write them out: jq -c '.[{json.dumps(key)}][]' {path.name} > rows.jsonl"
        )


def _looks_like_rows(value: Any) -> bool:
    """A list of objects that are no messages of one conversation, and no tools."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) for item in value)
        and not any({key.lower() for key in item} & {"role", "from", "type", "function"} for item in value)
    )


def _array(path: Path) -> Iterator[Row]:
    """A JSON array, read a chunk at a time so that a large one never lies in memory."""
    with opened(path) as stream:
        cursor = _Cursor(as_text(stream), path)
        cursor.peek()
        cursor.take("[")
        number = 0
        while cursor.peek() != "]" or number:
            number += 1
            line = cursor.line
            value, problem = cursor.value()
            yield Row(str(path), f"{line} (row {number})", value, problem)
            if cursor.peek() == "]":
                break
            cursor.take(",")
            cursor.peek()
        cursor.take("]")
        if after := cursor.peek():
            second = "; a second array begins here: make them one, or write one row a line" if after == "[" else ""
            raise BadData(f"{path}:{cursor.line}: not JSON: text after the end of the array{second}")


class _Cursor:
    """A place in a text that is read as it is needed."""

    def __init__(self, stream: TextIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self._buffer, self._at = "", 0
        self._parser = _Parser()
        self.line = 1

    def peek(self) -> str:
        """The next character that is no space, empty at the end."""
        while True:
            end = _skip(self._buffer, self._at)
            self._go(end)
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more(CHUNK):
                return ""

    def take(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            raise self._bad(f"expected {wanted!r}, got {found!r}" if found else "the file ends inside the array")
        self._at += 1

    def value(self) -> tuple[Any, str]:
        """The value that begins here, and what is wrong with it."""
        size = CHUNK
        while True:
            try:
                value, end = self._parser.parse(self._buffer, self._at)
            except RecursionError:
                self._skip_value()
                return None, DEEP
            except json.JSONDecodeError as error:
                # Not only the text of this chunk that ends too early: no more of it would mend this.
                final = error.pos < len(self._buffer) - 20 and not error.msg.startswith(("Unterminated", "Invalid \\"))
                ahead = error.pos - self._at  # reading more moves the buffer
                if final or not self._more(size):
                    self._go(min(self._at + ahead, len(self._buffer)))
                    raise self._bad(error.msg) from None
            else:
                # A number at the end of the chunk may go on in the next.
                if end < len(self._buffer) or not self._more(size):
                    self._go(end)
                    return value, self._parser.problem
            size *= 2

    def _skip_value(self) -> None:
        """Go over a value that is too deep to be parsed."""
        size = CHUNK
        while True:
            depth = 0
            for found in STRUCTURE.finditer(self._buffer, self._at):
                depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
                if depth == 0:
                    self._go(found.end())
                    return
            if not self._more(size):
                raise self._bad("the row does not end")
            size *= 2

    def _more(self, size: int) -> bool:
        rest = self._buffer[self._at :]
        if len(rest) > LIMIT:
            raise BadData(f"{self._path}:{self.line}: a row of {SHOWN_LIMIT} begins here")
        try:
            text = self._stream.read(size)
        except UnicodeDecodeError as error:
            raise BadData(f"{self._path}:{self.line}: {not_utf8(error)}, here or below") from None
        self._buffer, self._at = rest + text, 0
        return bool(text)

    def _go(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def _bad(self, text: str) -> BadData:
        return BadData(f"{self._path}:{self.line}: not JSON: {text}")
