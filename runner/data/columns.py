"""A source's `columns`: our names to yours, or to a text that is made of several of yours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

from recipes.columns import fields_of
from recipes.encode import BadRow
from recipes.errors import did_you_mean
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
                near = next((theirs for theirs in row if plain(theirs) == plain(name)), None)
                advice = f"; did you mean {near!r}?" if near else did_you_mean(name, map(str, row))
                raise BadRow(f"no column {name!r}; it has {', '.join(map(str, row))[:200]}{advice}")
        values[ours] = row[theirs] if names == (theirs,) else _filled(theirs, row)
        origins[ours] = names
    return values, origins


def plain(name: object) -> str:
    """A column's name without capitals, and spaces around it."""
    return str(name).strip().lower()


def lacking(row: Mapping[str, Any], key: str) -> str:
    """That a row has no column of ours, what it has, and which of these may be meant."""
    return f"no {key!r}; it has {', '.join(map(str, row))[:200]}{meant(row, [key])}"


def meant(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    """What to set where a row has our columns but for capitals, and spaces around them; else nothing."""
    near: dict[str, str] = {plain(name): str(name) for name in reversed(list(row))}
    found = {key: near[key] for key in keys if key in near and key not in row}
    written = ", ".join(
        f"{key}: {name if name.isidentifier() else json.dumps(name, ensure_ascii=False)}" for key, name in found.items()
    )
    return f"; did you mean columns: {{{written}}}?" if found else ""


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
