"""Canonical rows: reads the validation rows and test prompts that data preparation wrote."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.spec import Spec
from recipes.errors import Problem, UserError

Row = dict[str, Any]


def read_jsonl(path: Path | zipfile.Path, limit: int | None = None) -> list[Row]:
    """The objects of a file of JSON lines.

    Raises:
        UserError: with file and line, where a line is no JSON object.
    """
    rows: list[Row] = []
    for number, line in _lines(path):
        if limit is not None and len(rows) == limit:
            break
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(Problem(file=str(path), line=number, text=f"not JSON: {error}")) from None
        if not isinstance(row, dict):
            raise UserError(Problem(file=str(path), line=number, text=f"an object is wanted, not {line[:60]!r}"))
        rows.append(row)
    return rows


def _lines(path: Path | zipfile.Path) -> Iterator[tuple[int, str]]:
    try:
        # Only \n and \r\n end a line: str.splitlines would also break at U+2028 inside a text.
        with path.open(encoding="utf-8-sig") as stream:
            yield from ((n, line) for n, line in enumerate(stream, 1) if line.strip())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8") from None


def rows_file(spec: Spec, suite: str) -> str | None:
    """Where a suite's rows stand: its own data, else the validation rows."""
    return spec.data.get(suite) or spec.rows


def rows_of(path: str | None, suite: str, limit: int | None) -> list[Row]:
    """The first rows of a file.

    Raises:
        UserError: there are none, or one is not a canonical row.
    """
    if not path:
        raise UserError(f"{suite}: no rows to score on; give validation rows")
    rows = read_jsonl(Path(path), limit)
    bad = next((n for n, row in enumerate(rows) if not _canonical(row)), None)
    if bad is not None:
        wanted = "messages, or prompt with chosen and rejected, completion and label, or answer"
        raise UserError(f"{path}: {suite}: row {bad + 1} has keys {', '.join(rows[bad])}; expected {wanted}")
    if not rows:
        raise UserError(f"{path}: {suite}: no rows")
    return rows


def _canonical(row: Row) -> bool:
    keys = ("messages",) if "messages" in row else ("prompt",)
    return all(isinstance(row.get(key), list) for key in keys) and (
        "messages" in row or any(key in row for key in ("chosen", "completion", "answer"))
    )


def conversation(row: Row) -> list[dict[str, str]] | None:
    """The conversation a model should find likely: the reply, the chosen one, or one that is labelled good."""
    if "messages" in row:
        return list(row["messages"])
    if "chosen" in row:
        return [*row["prompt"], *row["chosen"]]
    if row.get("label"):
        return [*row["prompt"], *row["completion"]]
    return None
