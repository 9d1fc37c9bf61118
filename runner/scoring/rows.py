"""Rows of any data format as canonical rows, for scoring a model on a file that no run has prepared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.rows import half_a_character
from recipes import UserError
from recipes.encode import BadRow
from runner.data.formats import HalfCharacter, convert, detect, guess
from runner.data.read import BadData, read
from runner.data.spec import source_of


def canonical(path: Path, target: Path) -> Path:
    """Write the rows of `path` (what a recipe's source may be here: docs/data.md) to `target` in canonical form.

    Raises:
        UserError: a row that is malformed or of no known format, by file and line.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8") as out:
        try:
            out.writelines(json.dumps(row, ensure_ascii=bool(half_a_character(row))) + "\n" for row in _rows(path))
        except BadData as error:
            raise UserError(str(error)) from None
        except ModuleNotFoundError:
            raise UserError(
                f"--data {path}: parquet, Arrow and .zst are read inside a run only; give json, jsonl or csv, "
                "plain or as .gz, or install pyarrow beside this tool"
            ) from None
    return target


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    source = replace(source_of(path), split=None)  # whatever a file is called, it is the one to score
    name = ""
    for raw in read(source):
        try:
            if raw.problem:
                raise BadRow(raw.problem)
            name = name or (found[1] if (found := guess(raw.value)) else detect(raw.value, "sft"))
            yield convert(raw.value, name, source).row
        except HalfCharacter as error:
            yield error.row  # counted as a failure by each suite that would ask it; the others are scored
        except BadRow as error:
            raise UserError(f"{raw.place}: {error}") from None
