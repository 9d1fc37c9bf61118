"""Rows out of parquet and Arrow files, a few at a time: a small file may unpack to more than the memory holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.data_files import File
from runner.data.row import LIMIT, SHOWN_LIMIT, BadData, Row

BATCH = 32
BOMB, RATIO = 256 << 20, 200  # bytes of a column chunk when unpacked, and how many times its packed size that is


def parquet(path: File) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path if isinstance(path, Path) else path.open()) as file:
            _check_columns(path, file.schema_arrow.names)
            _check_size(path, file.metadata)
            yield from _rows(path, file.iter_batches(batch_size=BATCH))
    except (pyarrow.ArrowException, OSError) as error:
        raise BadData(f"{path}: not parquet: {_first(error)}") from None


def arrow(path: File) -> Iterator[Row]:
    """An Arrow file: of IPC's stream format, as datasets writes, or of its file format, which is Feather too."""
    import pyarrow
    import pyarrow.ipc

    try:
        local = isinstance(path, Path)
        with pyarrow.memory_map(str(path)) if local else pyarrow.PythonFile(path.open("rb"), "r") as source:
            head = source.read(6)
            source.seek(0)
            if head[:4] == b"FEA1":
                raise BadData(f"{path}: Feather of version 1; write it again with a pandas or pyarrow of today")
            kind = pyarrow.ipc.open_file if head == b"ARROW1" else pyarrow.ipc.open_stream
            with kind(source) as batches:
                _check_columns(path, batches.schema.names)
                yield from _rows(path, (part for batch in _batches(batches) for part in _parts(batch)))
    except (pyarrow.ArrowException, OSError) as error:
        raise BadData(f"{path}: no Arrow data, as datasets and Feather write them: {_first(error)}") from None


def _batches(reader: Any) -> Iterator[Any]:
    if not hasattr(reader, "get_batch"):
        return iter(reader)
    return (reader.get_batch(number) for number in range(reader.num_record_batches))


def _parts(batch: Any) -> Iterator[Any]:
    batch.validate(full=True)  # a damaged file's offsets lead anywhere in the memory
    return (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))


def _rows(path: File, batches: Iterator[Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        if batch.nbytes > LIMIT * batch.num_rows:
            raise BadData(f"{path}:row {number + 1}: a row of {SHOWN_LIMIT}, here or below")
        try:
            values = batch.to_pylist()
        except (ValueError, OverflowError) as error:  # text that is no UTF-8, a date that Python does not have
            raise BadData(f"{path}:row {number + 1}: cannot be read, here or below: {_first(error)}") from None
        for value in values:
            number += 1
            yield Row(str(path), f"row {number}", value)


def _check_columns(path: File, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadData(f"{path}: column {twice[0]!r} stands twice; rename or take out one")


def _check_size(path: File, metadata: Any) -> None:
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            if chunk.total_uncompressed_size > max(BOMB, RATIO * chunk.total_compressed_size):
                raise BadData(
                    f"{path}: column {chunk.path_in_schema!r} unpacks from {chunk.total_compressed_size:,} to "
                    f"{chunk.total_uncompressed_size:,} bytes; write it again in smaller row groups"
                )


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
