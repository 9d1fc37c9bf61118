"""Writes rows of a file in another format, or as two files, whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipes.encode import BadRow
from recipes.errors import UserError
from recipes.files import write_text
from recipes.paths import PACKED, data_kind, is_pattern
from recipes.types import Source
from runner.data.formats import detect
from runner.data.notes import Complaints
from runner.data.read import BadData, Row, files_of, read
from runner.data.rewrite import canonical, rewritten
from runner.data.written import held_out
from runner.training.inspect import file_spec
from runner.training.prepare import not_read

RANKED = "ranked"


def convert_file(path: str, to: str, target: Path | None, say: Callable[[str], None]) -> str:
    """Rows of a file as JSON lines of another format; written to `target`, where there is one, else returned.

    Raises:
        UserError: rows that are malformed or do not fit, each by file and line; nothing is written then.
    """
    lines: list[str] = []
    problems = Complaints()
    unused: Counter[str] = Counter()
    with _readable(path):
        spec = file_spec(path)
        source, name = spec.data.train[0], ""
        for raw in _rows(source, say):
            try:
                value = _value(raw)
                name = name or detect(value, spec.method)
                row, beside = canonical(value, name, source)
                unused.update(beside)
                # Of several replies in an order a row of training is two; as what it was it stays whole.
                lines.append(_line(value if name == to == RANKED else rewritten(row, name, to)))
            except BadRow as error:
                problems.add(raw.place, str(error))
                if problems.full:
                    break
    _check(path, problems, lines)
    if name == RANKED != to:
        say("not taken along: scores and ranks, and the replies between the best and the worst of each row")
    if unused:
        say("not taken along: " + ", ".join(f"{column} ({count:,} rows)" for column, count in unused.items()))
    return _put("".join(lines), target)


def split_file(path: str, fraction: float, seed: int, say: Callable[[str], None]) -> list[tuple[Path, int]]:
    """Two files of JSON lines beside a file, its rows as they are: for training, and held out, as training would.

    Raises:
        UserError: rows that cannot be read, too few of them, or files that are there already.
    """
    if is_pattern(path):
        raise UserError(f"{path}: a pattern has no name to write beside; give a file or a directory")
    lines: list[str] = []
    problems = Complaints()
    with _readable(path):
        for raw in _rows(file_spec(path).data.train[0], say):
            try:
                lines.append(_line(_value(raw)))
            except BadRow as error:
                problems.add(raw.place, str(error))
    _check(path, problems, lines)
    if len(lines) < 2:
        raise UserError(f"{path}: {len(lines)} row cannot be split; at least 2")
    out = held_out(len(lines), fraction, seed)
    if len(out) == len(lines):
        raise UserError(f"--fraction {fraction}: leaves no row of {len(lines)} to train on; give less")
    stem = Path(path).with_name(Path(path).name.split(".")[0])
    targets = [stem.with_name(f"{stem.name}.{name}.jsonl") for name in ("train", "validation")]
    for target in targets:
        _refuse_there(target)
    parts = ([n for n in range(len(lines)) if n not in out], sorted(out))
    for target, numbers in zip(targets, parts, strict=True):
        write_text(target, "".join(lines[n] for n in numbers))
    return [(target, len(numbers)) for target, numbers in zip(targets, parts, strict=True)]


def write_samples(rows: Iterator[Any], target: Path | None) -> str:
    """Rows as JSON lines; written to `target`, where there is one, else returned."""
    return _put("".join(map(_line, rows)), target)


def _put(text: str, target: Path | None) -> str:
    if target is None:
        return text
    _refuse_there(target)
    if data_kind(target) != "json" or target.suffix.lower() in PACKED:
        raise UserError(f"{target}: rows are written as JSON lines, plain; let its name end in .jsonl")
    try:
        write_text(target, text)
    except OSError as error:
        raise UserError(f"{target}: {error.strerror}") from None
    return ""


def _refuse_there(target: Path) -> None:
    if target.exists():
        raise UserError(f"{target}: is there already; give another name, or remove it")


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except BadData as error:
        raise UserError(str(error)) from None
    except ModuleNotFoundError:
        raise UserError(
            f"{path}: parquet, Arrow, .zst and stores are read in a backend's environment only; give json, jsonl, csv "
            "or txt, plain or as .gz, or install pyarrow beside this tool"
        ) from None


def _rows(source: Source, say: Callable[[str], None]) -> Iterator[Row]:
    """The rows of a source, and a line on what lies beside them for another split."""
    files = files_of(source)
    for chosen in filter(None, files):
        if others := not_read(chosen.left_out):
            say(others)
    yield from read(source, files)


def _value(raw: Row) -> Any:
    if raw.problem:
        raise BadRow(raw.problem)
    return raw.value


def _line(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
        text.encode()
    except UnicodeEncodeError:
        raise BadRow("it holds half a character, which no file can") from None
    except (TypeError, ValueError) as error:
        raise BadRow(f"it cannot be written as JSON: {error}") from None
    return text


def _check(path: str, problems: Complaints, lines: list[str]) -> None:
    if problems.rows:
        raise UserError(*problems.lines())
    if not lines:
        raise UserError(f"{path}: no rows")
