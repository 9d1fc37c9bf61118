"""Rows out of CSV: the first line names the columns, and every row has all of them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

from recipes.paths import unpacked_name
from runner.data.row import LIMIT, SHOWN_LIMIT, BadData, Row, TextFile, as_text, not_utf8, opened

SEPARATOR = re.compile(r"sep=([^\r\n])\s*")  # a first line for Excel, which is no header
QUOTED = re.compile(r'"[^"]*"')  # what stands in quotes separates nothing


def read(path: TextFile, delimiter: str | None) -> Iterator[Row]:
    """The rows of a CSV file.

    Args:
        delimiter: what stands between the cells; None tells it from the name and the header.
    """
    csv.field_size_limit(LIMIT)
    with opened(path) as stream:
        text = _Lines(as_text(stream), path)
        first, before = next(text, ""), 0
        while first and (not first.strip() or SEPARATOR.fullmatch(first)):
            told = SEPARATOR.fullmatch(first)
            delimiter = delimiter or (told[1] if told else None)
            first, before = next(text, ""), before + 1
        text.back(first)
        reader = csv.reader(text, strict=True, delimiter=delimiter or _delimiter(path, first))
        header: list[str] | None = None
        line = before + 1  # a quoted cell may span lines: the reader's own number is the row's last
        try:
            for cells in reader:
                where, line = str(line), before + reader.line_num + 1
                if not cells:
                    continue
                if header is None:
                    header = _checked(cells, path, where)
                elif len(cells) != len(header):
                    yield Row(str(path), where, None, f"{len(cells)} cells, the header has {len(header)}")
                else:
                    yield Row(str(path), where, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise BadData(f"{path}:{line}: not CSV: {error}") from None


class _Lines:
    """The lines of a text, none of them over the limit."""

    def __init__(self, stream: TextIO, path: TextFile) -> None:
        self._stream, self._path = stream, path
        self._number, self._back = 0, ""

    def back(self, line: str) -> None:
        self._back = line

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._back:
            line, self._back = self._back, ""
            return line
        self._number += 1
        try:
            line = self._stream.readline(LIMIT + 1)
        except UnicodeDecodeError as error:
            raise BadData(f"{self._path}:{self._number}: {not_utf8(self._path, error, ', here or below')}") from None
        if not line:
            raise StopIteration
        if len(line) > LIMIT:
            raise BadData(f"{self._path}:{self._number}: a line of {SHOWN_LIMIT}")
        return line


def _delimiter(path: TextFile, header: str) -> str:
    """Excel writes ';' where the comma is the decimal point; a .tsv may have commas in the names of its columns."""
    header = QUOTED.sub("", header)
    if "\t" in header and unpacked_name(path.name).suffix == ".tsv":
        return "\t"
    if "," in header:
        return ","
    return max(";\t|", key=header.count) if set(header) & set(";\t|") else ","


def _checked(header: list[str], path: TextFile, where: str) -> list[str]:
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise BadData(f"{path}:{where}: column {twice[0]!r} stands twice in the header; rename or take out one")
    return header
