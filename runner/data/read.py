"""Reads rows from files and hubs one at a time, each with the place that an error message can name."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
CHUNK = 1 << 20


class BadData(Exception):
    """Data that cannot be used; the text begins with its place."""


@dataclass(frozen=True)
class Row:
    """One raw row. `number` is a line of the file, or a row number where the format has no lines."""

    file: str
    number: int
    value: Any

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"


def read(source: dict[str, Any]) -> Iterator[Row]:
    """The raw rows of a recipe's source, in order, at most `max_samples`.

    Raises:
        BadData: a file that cannot be read or parsed, with its line.
    """
    rows = _local(Path(source["path"])) if Path(source["path"]).exists() else _hub(source)
    limit = source["max_samples"]
    for count, row in enumerate(rows):
        if limit is not None and count >= limit:
            return
        yield row


def _local(path: Path) -> Iterator[Row]:
    files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise BadData(f"{path}: no json, jsonl, csv or parquet file in this directory")
    for file in files:
        if file.suffix not in _READERS:
            raise BadData(
                f"{file}: cannot read {file.suffix or 'a file without suffix'}; allowed: {', '.join(SUFFIXES)}"
            )
        try:
            yield from _READERS[file.suffix](file)
        except UnicodeDecodeError as error:
            raise BadData(f"{file}: not UTF-8 ({error.reason} near byte {error.start})") from None
        except OSError as error:
            raise BadData(f"{file}: {error.strerror or error}") from None


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield Row(str(path), number, _parse(line, path, number))


def _parse(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadData(f"{path}:{number}: not JSON: {error}") from None


def _json(path: Path) -> Iterator[Row]:
    """A JSON array, read a chunk at a time so that a large one never lies in memory; or JSON lines."""
    with path.open(encoding="utf-8-sig") as stream:
        start = stream.read(CHUNK)
        if not start.lstrip().startswith("["):
            yield from _jsonl(path)
            return
        offset = start.index("[") + 1
        yield from _array(start[offset:], start.count("\n", 0, offset) + 1, stream, path)


def _array(buffer: str, line: int, stream: Any, path: Path) -> Iterator[Row]:
    decoder, chunk, ended = json.JSONDecoder(), CHUNK, False
    while True:
        rest = buffer.lstrip(" \t\r\n,")
        line += buffer.count("\n", 0, len(buffer) - len(rest))
        buffer = rest
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
        except (json.JSONDecodeError, RecursionError) as error:
            if ended:
                lines = line + getattr(error, "lineno", 1) - 1
                raise BadData(f"{path}:{lines}: not JSON: {getattr(error, 'msg', 'nested too deep')}") from None
            more = stream.read(chunk)
            chunk, ended = chunk * 2, not more
            buffer += more
            continue
        yield Row(str(path), line, value)
        line += buffer.count("\n", 0, end)
        buffer, chunk = buffer[end:], CHUNK


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        line = 2  # a quoted cell may span lines: the reader's own number is the row's last
        try:
            for value in reader:
                if None in value or None in value.values():
                    raise BadData(
                        f"{path}:{line}: {_cells(value)} cells, the header has {len(reader.fieldnames or [])}"
                    )
                yield Row(str(path), line, value)
                line = reader.line_num + 1
        except csv.Error as error:
            raise BadData(f"{path}:{line}: not CSV: {error}") from None


def _cells(value: dict[Any, Any]) -> int:
    return sum(v is not None for k, v in value.items() if k is not None) + len(value.get(None, []))


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise BadData(f"{path}: not parquet: {error}") from None
    number = 0
    for batch in file.iter_batches(batch_size=1024):
        for value in batch.to_pylist():
            number += 1
            yield Row(str(path), number, value)


_READERS = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}


def _hub(source: dict[str, Any]) -> Iterator[Row]:
    import datasets

    name = source["path"]
    try:
        rows = datasets.load_dataset(
            name, source["subset"], split=source["split"], revision=source["revision"], streaming=True
        )
        for number, value in enumerate(rows, 1):
            yield Row(f"{name}[{source['split']}]", number, value)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise BadData(
            f"{name}: cannot load it from the hub: {first}; check the name, split {source['split']!r}, your access "
            "(HF_TOKEN) and the network (HF_ENDPOINT), or give a local file"
        ) from None
