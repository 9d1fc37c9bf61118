"""Reads rows from files and hubs one at a time, each with the place that an error message can name."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePath

from recipes import data_files
from recipes.data_files import Chosen, File
from recipes.errors import UserError
from recipes.paths import data_kind, hub_name, scheme
from recipes.remote import Remote, explained
from recipes.types import Source
from runner.data import csv_rows, json_rows, longbench, remote, tables, text_rows
from runner.data.row import BadData, Row, TextFile

__all__ = ["BadData", "Row", "files_of", "read"]


Files = tuple[Chosen | None, ...]


def files_of(source: Source) -> Files:
    """The files of each path of a source that is local or in a remote store, None for a data set of a hub.

    Raises:
        BadData: nothing that can be read.
    """
    try:
        return tuple(_files_of(path, source) for path in source.paths)
    except UserError as error:
        raise BadData(str(error)) from None


def _files_of(text: str, source: Source) -> Chosen | None:
    path = Path(text)
    if source.format == "longbench":  # its reader chooses by subsets
        return Chosen((), {}) if path.exists() else None
    if scheme(text):
        return None if hub_name(text) else remote.choose(text, source.split)
    return data_files.choose(path, source.split) if data_files.there(path) else None


def read(source: Source, files: Files | None = None, *, seed: int = 0) -> Iterator[Row]:
    """The raw rows of a recipe's source, in order, as many as `max_samples` says.

    A fraction, or rows at random, need their number: the source is read twice.

    Args:
        files: what `files_of` found, where that was asked before.
        seed: of the rows that are taken at random.

    Raises:
        BadData: a file that cannot be read or parsed, with its line.
    """
    found, wanted = files_of(source) if files is None else files, source.max_samples
    if wanted is None or (wanted >= 1 and not source.shuffle):
        return islice(_every(source, found), None if wanted is None else int(wanted))
    count = sum(1 for _ in _every(source, found))
    some = int(wanted) if wanted >= 1 else max(1, round(wanted * count))
    return (
        at_random(_every(source, found), count, some, seed) if source.shuffle else islice(_every(source, found), some)
    )


def at_random(rows: Iterable[Row], count: int, wanted: int, seed: int) -> Iterator[Row]:
    """`wanted` of `count` rows in their order, any choice as likely as another: Knuth's algorithm S (TAOCP 3.4.2)."""
    chance, taken, beside = random.Random(seed), 0, tuple[str, ...]()
    for number, row in enumerate(rows):
        beside += row.beside  # what a file holds beside its rows is told with one that is taken
        if chance.random() * (count - number) < wanted - taken:
            taken += 1
            yield replace(row, beside=beside)
            beside = ()


def _every(source: Source, files: Files) -> Iterator[Row]:
    if source.format == "longbench":
        yield from longbench.rows(source)
        return
    for path, chosen in zip(source.paths, files, strict=True):
        yield from _of_files(chosen, source) if chosen else _hub(path, source)


def _of_files(chosen: Chosen, source: Source) -> Iterator[Row]:
    for file in chosen.files:
        try:
            with explained(str(file)) if isinstance(file, Remote) else nullcontext():
                yield from _of_file(file, source)
        except OSError as error:
            raise BadData(f"{file}: {error.strerror or error}") from None
        except UserError as error:  # a remote store's
            raise BadData(str(error)) from None


def _of_file(file: File, source: Source) -> Iterator[Row]:
    kind, text = data_kind(PurePath(file.name)), TextFile(file, source.encoding)
    if kind == "json":
        return json_rows.read(text, source.columns.values())
    if kind == "csv":
        return csv_rows.read(text, source.delimiter)
    if kind == "text":
        return text_rows.read(text, source.text)
    return tables.parquet(file) if kind == "parquet" else tables.arrow(file)


def _hub(path: str, source: Source) -> Iterator[Row]:
    import datasets

    name, revision = hub_name(path) or (path, None)
    revision = revision or source.revision
    try:
        rows = datasets.load_dataset(name, source.subset, split=source.split, revision=revision, streaming=True)
        for number, value in enumerate(rows, 1):
            yield Row(f"{name}[{source.split}]", f"row {number}", value)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise BadData(
            f"{name}: cannot load it from the hub: {first}; check the name, split {source.split!r}, your access "
            "(HF_TOKEN) and the network (HF_ENDPOINT), or give a local file"
        ) from None
