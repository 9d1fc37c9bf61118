"""Reads rows from files and hubs one at a time, each with the place that an error message can name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from recipes import data_files
from recipes.data_files import Chosen
from recipes.errors import UserError
from recipes.paths import data_kind
from recipes.types import Source
from runner.data import csv_rows, json_rows, tables
from runner.data.row import BadData, Row

__all__ = ["BadData", "Row", "local_files", "read"]
_READERS = {"json": json_rows.read, "csv": csv_rows.read, "parquet": tables.parquet}


def local_files(source: Source) -> Chosen | None:
    """The files of a source that is local, None for one of a hub.

    Raises:
        BadData: nothing that can be read.
    """
    path = Path(source.path)
    try:
        return data_files.choose(path, source.split) if path.exists() else None
    except UserError as error:
        raise BadData(str(error)) from None


def read(source: Source, files: Chosen | None = None) -> Iterator[Row]:
    """The raw rows of a recipe's source, in order, at most `max_samples`.

    Args:
        files: what `local_files` found, where that was asked before.

    Raises:
        BadData: a file that cannot be read or parsed, with its line.
    """
    files = files or local_files(source)
    return islice(_local(files) if files else _hub(source), source.max_samples)


def _local(chosen: Chosen) -> Iterator[Row]:
    for file in chosen.files:
        try:
            yield from tables.arrow(file) if chosen.saved else _READERS[data_kind(file) or ""](file)
        except OSError as error:
            raise BadData(f"{file}: {error.strerror or error}") from None


def _hub(source: Source) -> Iterator[Row]:
    import datasets

    name = source.path
    try:
        rows = datasets.load_dataset(name, source.subset, split=source.split, revision=source.revision, streaming=True)
        for number, value in enumerate(rows, 1):
            yield Row(f"{name}[{source.split}]", f"row {number}", value)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise BadData(
            f"{name}: cannot load it from the hub: {first}; check the name, split {source.split!r}, your access "
            "(HF_TOKEN) and the network (HF_ENDPOINT), or give a local file"
        ) from None
