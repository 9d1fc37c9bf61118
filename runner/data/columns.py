"""A source's `columns`: our names to yours, or to a text that is made of several of yours."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

from recipes.columns import fields_of
from recipes.encode import BadRow
from runner.data.honoured import blank

Row = dict[str, Any]


def renamed(row: Row, columns: Mapping[str, str]) -> tuple[Row, dict[str, tuple[str, ...]]]:
    """The row under our names too, and which of its columns each of ours was made of.

    Raises:
        BadRow: a column is not there, or no text can be made of it.
    """
    values, origins = dict(row), {}
    for ours, theirs in columns.items():
        names = (theirs,) if theirs in row or "{" not in theirs else fields_of(theirs)
        for name in names:
            if name not in row:
                raise BadRow(f"no column {name!r}; it has {', '.join(map(str, row))[:200]}")
        values[ours] = row[theirs] if names == (theirs,) else _filled(theirs, row)
        origins[ours] = names
    return values, origins


def _filled(template: str, row: Row) -> str:
    """What is absent is nothing: a template of empty columns alone is an empty text."""
    names = fields_of(template)
    for name in names:
        if not isinstance(row[name], (str, int, float, type(None))):
            raise BadRow(f"column {name!r} is {type(row[name]).__name__}: a template takes texts and numbers")
    if all(blank(row[name]) for name in names):
        return ""
    parts = Formatter().parse(template)
    return "".join(text + ("" if name is None or blank(row[name]) else str(row[name])) for text, name, _, _ in parts)
