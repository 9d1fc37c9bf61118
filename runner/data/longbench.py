"""LongBench as training data: its rows, each asked by the subset's official prompt, with a reference as the reply."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from eval.metrics.longbench_rows import row_problem
from eval.suites.longbench_prompts import ARCHIVE, REPOSITORY, definitions, prompt
from recipes.encode import BadRow
from recipes.errors import UserError
from recipes.longbench import Subset, subset_files
from recipes.types import Source
from runner.data.fields import Fields
from runner.data.row import BadData, Row, lines
from runner.data.turns import assistant_turn, user_turn


def rows(source: Source) -> Iterator[Row]:
    """The rows of a source, each with its subset as `dataset` and one answer.

    Raises:
        BadData: its files are not there, or cannot be read.
    """
    for path in source.paths:
        yield from _of_path(path, source)


def _of_path(text: str, source: Source) -> Iterator[Row]:
    path = Path(text)
    try:
        files = subset_files(path if path.exists() else _archive(text), source.subsets, buckets=False)
    except UserError as error:
        raise BadData(str(error)) from None
    for name, file in files.items():
        for number, line in _lines(file):
            place = str(file) if isinstance(file, Path) else str(path)
            where = str(number) if isinstance(file, Path) else f"{name}.jsonl:{number}"
            value, problem = _parsed(name, line)
            if problem:
                yield Row(place, where, None, problem)
                continue
            answers = value["answers"][:1] if source.answers == "first" else value["answers"]
            for answer in answers or [""]:
                yield Row(place, where, {**value, "dataset": name, "answers": [answer]})


def _archive(name: str) -> Path:
    if name != REPOSITORY:
        raise BadData(f"{name}: no such file or directory; LongBench on the Hub is {REPOSITORY}")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(REPOSITORY, ARCHIVE, repo_type="dataset"))
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise BadData(
            f"{name}: cannot be fetched from the Hub: {first}; or give its {ARCHIVE}, or a directory"
        ) from None


def _lines(file: Subset) -> Iterator[tuple[int, bytes | None]]:
    with file.open("rb") as stream:
        try:
            yield from ((n, line) for n, line in lines(stream) if line is None or line.strip())
        except (OSError, zipfile.BadZipFile) as error:
            raise BadData(f"{file}: cannot be read: {error}") from None


def _parsed(name: str, line: bytes | None) -> tuple[dict[str, Any], str]:
    """A row, or why it is none."""
    if line is None:
        return {}, "a row of more than 64 MB"
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return {}, f"not JSON: {error}"
    if not isinstance(value, dict):
        return {}, f"a row must be a mapping, not {type(value).__name__}"
    return value, row_problem(name, value, ("input", "context"), buckets=False)


def conversation(row: Fields) -> dict[str, Any]:
    """{"dataset": "qmsum", "context": "…", "input": "What was decided?", "answers": ["To wait."]}"""
    for key in ("all_classes", "length", "language", "_id"):
        row.get(key)
    asked = prompt(_prompts()[str(row.get("dataset"))], {key: row.get(key) for key in ("context", "input")})
    answer = row.get("answers")[0]
    if not answer.strip():
        raise BadRow("answers: the reference is empty")
    return {"messages": [user_turn(asked), assistant_turn(answer)]}


@cache
def _prompts() -> dict[str, str]:
    return definitions()[0]
