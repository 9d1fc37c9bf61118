"""Rows out of JSON: one a line, one array, or one under a key, whichever the file holds, strictly as JSON has it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from recipes.columns import COLUMNS_OF_FORMAT
from recipes.paths import unpacked_name
from runner.data.json_cursor import CHUNK, DEEP, Cursor, Parser, skip
from runner.data.row import SHOWN_LIMIT, BadData, Row, TextFile, as_text, lines, not_utf8, opened

# What no part of a row has; and what a file of one row has, which may well hold a list of objects beside these.
OF_ROWS = {"messages", "conversations", "instruction", "prompt", "question", "response", "answer", "chosen", "output"}
OF_ONE = OF_ROWS.union(*COLUMNS_OF_FORMAT.values())
OF_A_PART = {"role", "from", "type", "function"}  # of a message, a content part, a tool


def read(path: TextFile, columns: Collection[str] = ()) -> Iterator[Row]:
    """The rows of a file of JSON lines, of one JSON array, or of one object that has them under a key.

    Args:
        columns: what the recipe calls columns of a row: an object that has one of them at its top is a row.
    """
    with opened(path) as stream:
        start = stream.read(CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        yield from _array(path)
    elif start.startswith(b"{") and (nested := _rows_key(path, OF_ONE | set(columns))):
        yield from _under(path, *nested)
    else:
        yield from _lines(path)


def _lines(path: TextFile) -> Iterator[Row]:
    """Rows of JSON lines; in a .json file, one object over several lines is a row too."""
    first = True
    for row, whole in _each_line(path):
        if first and not whole and _is_json(path):
            yield _document(path)
            return
        first = False
        yield row


def _is_json(path: TextFile) -> bool:
    return unpacked_name(path.name).suffix == ".json"


def _each_line(path: TextFile) -> Iterator[tuple[Row, bool]]:
    """Each row, and whether its line holds a whole value."""
    parser = Parser()
    with opened(path) as stream:
        for number, line in lines(stream):
            if line is None:
                yield Row(str(path), str(number), None, f"a line of {SHOWN_LIMIT}"), True
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadData(f"{path}:{number}: {not_utf8(path, error)}") from None
            start = skip(text, 0)
            if start < len(text):
                value, problem, whole = _line(parser, text, start)
                yield Row(str(path), str(number), value, problem), whole


def _line(parser: Parser, text: str, start: int) -> tuple[Any, str, bool]:
    try:
        value, end = parser.parse(text, start)
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at character {error.pos + 1}", error.pos < len(text.rstrip())
    except RecursionError:
        return None, DEEP, True
    rest = skip(text, end)
    if rest < len(text):
        return None, f"not JSON: text after the end of the row at character {rest + 1}", True
    return value, parser.problem, True


def _document(path: TextFile) -> Row:
    """The one value of a file that is no array and whose first line is not whole."""
    with opened(path) as stream:
        cursor = Cursor(as_text(stream), path)
        cursor.peek()
        line = cursor.line
        value, problem = cursor.value()
        if cursor.peek():
            raise BadData(
                f"{path}:{cursor.line}: not JSON: text after the end of the object; write one array, or one row a line"
            )
    return Row(str(path), str(line), value, problem)


def _rows_key(path: TextFile, own: Collection[str]) -> tuple[str, tuple[str, ...]] | None:
    """The key under which a file that is one object has its rows, and what else it says; None of any other file.

    Raises:
        BadData: rows under several keys, or JSON that is broken where rows have begun.
    """
    rows: dict[str, int] = {}  # under each key that may have them
    beside: list[str] = []
    with opened(path) as stream:
        cursor = Cursor(as_text(stream), path)
        begin = 1
        try:
            cursor.peek()
            begin = cursor.line
            for key in cursor.members():
                if key in own:
                    return None
                found = _count_rows(cursor)
                if found:
                    rows[key] = found
                else:
                    beside.append(key)
            lines_of_rows = cursor.line == begin
            if cursor.peek():
                if lines_of_rows:
                    return None
                raise cursor.bad("text after the end of the object; write one array, or one row a line")
        except BadData:
            # What is wrong with JSON lines is told row by row; an object over several lines is none of them.
            if _is_json(path) and cursor.line > begin and (rows or cursor.inside == "array"):
                raise
            return None
    if len(rows) > 1:
        shown = ", ".join(f"{name!r} ({count:,})" for name, count in rows.items())
        first = json.dumps(next(iter(rows)))
        raise BadData(
            f"{path}: one object with rows under several keys, {shown}; write out those to read: "
            f"jq -c '.[{first}][]' {path.name} > rows.jsonl"
        )
    return (next(iter(rows)), tuple(beside)) if rows else None


def _count_rows(cursor: Cursor) -> int:
    """Read a value; how many rows it is: 0 where it is no list, or holds anything else."""
    if cursor.peek() != "[":
        cursor.value()
        return 0
    count, all_rows = 0, True
    for _, value, problem in cursor.items():
        count += 1
        all_rows = all_rows and (bool(problem) or _looks_like_a_row(value))
    return count if all_rows else 0


def _looks_like_a_row(value: Any) -> bool:
    """An object that is no message of a conversation, and no tool."""
    return isinstance(value, dict) and bool(OF_ROWS & value.keys() or not {key.lower() for key in value} & OF_A_PART)


def _under(path: TextFile, wanted: str, beside: tuple[str, ...]) -> Iterator[Row]:
    """The rows under a key, one at a time, as those of an array."""
    with opened(path) as stream:
        cursor = Cursor(as_text(stream), path)
        cursor.peek()
        for key in cursor.members():
            if key != wanted:
                _count_rows(cursor)
                continue
            for number, (line, value, problem) in enumerate(cursor.items(), 1):
                named = tuple(f"{name} (beside {wanted!r})" for name in beside) if number == 1 else ()
                yield Row(str(path), f"{line} (row {number})", value, problem, named)


def _array(path: TextFile) -> Iterator[Row]:
    """A JSON array, read a chunk at a time so that a large one never lies in memory."""
    with opened(path) as stream:
        cursor = Cursor(as_text(stream), path)
        cursor.peek()
        for number, (line, value, problem) in enumerate(cursor.items(), 1):
            yield Row(str(path), f"{line} (row {number})", value, problem)
        if after := cursor.peek():
            second = "; a second array begins here: make them one, or write one row a line" if after == "[" else ""
            raise cursor.bad(f"text after the end of the array{second}")
