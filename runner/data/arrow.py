"""Writes columns of token lists as Arrow files, from arrays and not from lists, and copies their rows.

`datasets`' own writer looks at every token as an object of Python: a third of what preparing the data costs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

ROWS = 1000  # of a batch, as `datasets` writes them


class ArrowFile:
    """An Arrow file of columns, each a list of integers a row, or one value a row.

    Args:
        path: where it is written.
        lists: the width of the integers of each list column, in bits.
        values: the type of each other column, by the name of pyarrow's function (`bool_`, `null`).
        seekable: as IPC's file format, any batch of which can be read; else as its stream, as `datasets` has it.
    """

    def __init__(
        self, path: Path, lists: Mapping[str, int], values: Mapping[str, str] | None = None, *, seekable: bool = False
    ) -> None:
        import pyarrow as pa

        self._pa = pa
        self._types = {name: getattr(pa, f"int{width}")() for name, width in lists.items()}
        self._value_types = {name: getattr(pa, kind)() for name, kind in (values or {}).items()}
        fields = {name: pa.list_(kind) for name, kind in self._types.items()} | self._value_types
        self._schema = pa.schema(list(fields.items()))
        self._stream = pa.OSFile(str(path), "wb")
        self._writer = (pa.ipc.new_file if seekable else pa.ipc.new_stream)(self._stream, self._schema)
        self._clear()

    def _clear(self) -> None:
        self._lists: dict[str, Any] = {name: array("i") for name in self._types}
        self._ends = {name: array("i", [0]) for name in self._types}
        self._values: dict[str, list[Any]] = {name: [] for name in self._value_types}
        self._rows = 0

    def write(self, lists: Mapping[str, Any], values: Mapping[str, Any] | None = None) -> None:
        """Add a row: each list column's integers, as a list or an array("i"); each other column's value."""
        for name, numbers in lists.items():
            self._lists[name].extend(numbers)
            self._ends[name].append(len(self._lists[name]))
        for name, value in (values or {}).items():
            self._values[name].append(value)
        self._rows += 1
        if self._rows == ROWS:
            self._flush()

    def _flush(self) -> None:
        pa = self._pa
        columns = []
        for field in self._schema:
            if field.name not in self._types:
                columns.append(pa.array(self._values[field.name], self._value_types[field.name]))
                continue
            flat = pa.Array.from_buffers(
                pa.int32(), len(self._lists[field.name]), [None, pa.py_buffer(self._lists[field.name])]
            )
            ends = pa.Array.from_buffers(pa.int32(), self._rows + 1, [None, pa.py_buffer(self._ends[field.name])])
            columns.append(pa.ListArray.from_arrays(ends, flat.cast(self._types[field.name])))
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._clear()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()
        self._stream.close()


def tables_of(file: Path, indices: Sequence[int]) -> Iterator[Any]:
    """The rows of a seekable file by their indices, in that order, of which one batch is in memory at a time."""
    import pyarrow as pa

    with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as reader:
        for number, group in groupby(indices, lambda index: index // ROWS):
            batch = reader.get_batch(number)
            # `take` would load the kernels that compute: 20 MB.
            yield pa.Table.from_batches([batch.slice(index % ROWS, 1) for index in group]).combine_chunks()


def copy_rows(file: Path, indices: Sequence[int], target: Path) -> None:
    """Write rows of a seekable file as an Arrow stream."""
    import pyarrow as pa

    with pa.OSFile(str(file)) as source:
        schema = pa.ipc.open_file(source).schema
    with pa.OSFile(str(target), "wb") as stream, pa.ipc.new_stream(stream, schema) as writer:
        for table in tables_of(file, indices):
            writer.write_table(table)
