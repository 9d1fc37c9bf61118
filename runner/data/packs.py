"""Rows put together into sequences of one length: packs, in which no row sees another, and blocks of documents.

A pack holds whole rows. Its attention_mask counts them, 1, 1, 2, 2, …, its position_ids begin anew with each, and the
first token of a row carries no loss: nothing of that row precedes it. Packs are filled up to the longest with what has
no loss. A block is a slice of the documents one behind the other, with loss on every token but its first.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from recipes.encode import IGNORE
from runner.data.arrow import ROWS, ArrowFile, tables_of

EIGHT = 8  # LLaMA-Factory's collator fills rows up to a multiple of it, all but the position_ids


@dataclass(frozen=True)
class Packed:
    """How a split was put together: sequences, their length, and the rows' tokens in them."""

    sequences: int
    length: int
    tokens: int

    @property
    def fill(self) -> float:
        return self.tokens / (self.sequences * self.length) if self.sequences else 0.0


def best_fit(lengths: Sequence[int], capacity: int) -> list[array[int]]:
    """Put rows into as few packs as best fit, decreasing, finds: the longest first, each where it leaves least room.

    Args:
        lengths: tokens of each row, none over `capacity`.
        capacity: tokens of a pack.

    Returns:
        the indices of the rows of each pack.
    """
    import numpy as np

    packs: list[array[int]] = []
    rooms: list[int] = []  # the different rooms that packs have left, ascending
    with_room: dict[int, list[int]] = defaultdict(list)
    for index in map(int, np.argsort(-np.asarray(lengths, np.int64), kind="stable")):
        length = lengths[index]
        place = bisect_left(rooms, length)
        if place == len(rooms):
            packs.append(array("i"))
            pack, room = len(packs) - 1, capacity
        else:
            room = rooms[place]
            pack = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        packs[pack].append(index)
        left = room - length
        if left not in with_room:
            insort(rooms, left)
        with_room[left].append(pack)
    return packs


class Rows:
    """The token ids and labels of a seekable Arrow file's rows, in any order: read where they lie, on the disk."""

    def __init__(self, file: Path) -> None:
        import pyarrow as pa

        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        batches = map(reader.get_batch, range(reader.num_record_batches))
        self._batches = [[_numbers(batch.column(name)) for name in ("input_ids", "labels")] for batch in batches]

    def __getitem__(self, index: int) -> tuple[list[int], list[int]]:
        number, within = divmod(index, ROWS)
        ids, labels = (
            values[offsets[within] : offsets[within + 1]].tolist() for offsets, values in self._batches[number]
        )
        return ids, labels


def _numbers(column: Any) -> tuple[Any, Any]:
    return column.offsets.to_numpy(), column.values.to_numpy()


def write_packs(
    file: Path, indices: Sequence[int], lengths: Sequence[int], capacity: int, target: Path, places: Path
) -> Packed:
    """Write the packs of some rows as an Arrow file.

    Args:
        file: Arrow file of the rows, `lengths` theirs.
        indices: the rows to pack.
        capacity: the most tokens of a pack.
        places: where it is written which rows each pack holds, by their places in `indices`.
    """
    rows = Rows(file)
    own = array("I", (lengths[n] for n in indices))
    found = best_fit(own, capacity)
    length = -(-max(sum(own[n] for n in pack) for pack in found) // EIGHT) * EIGHT
    _write(target, (_pack([rows[indices[n]] for n in pack], length) for pack in found), positions=True)
    told = ArrowFile(places, {"rows": 32})
    for pack in found:
        told.write({"rows": pack})
    told.close()
    return Packed(sequences=len(found), length=length, tokens=sum(own))


def write_document_packs(
    file: Path, indices: Sequence[int], lengths: Sequence[int], capacity: int, target: Path
) -> Packed:
    """Write packs of whole documents; of one that is longer than a pack, pieces of `capacity` tokens."""
    rows = Rows(file)
    pieces = [(n, start) for n in indices for start in range(0, lengths[n], capacity)]
    own = array("I", (min(capacity, lengths[n] - start) for n, start in pieces))
    found = best_fit(own, capacity)
    length = -(-max(sum(own[n] for n in pack) for pack in found) // EIGHT) * EIGHT

    def piece(number: int) -> tuple[list[int], list[int]]:
        n, start = pieces[number]
        ids, labels = rows[n]
        return ids[start : start + capacity], labels[start : start + capacity]

    _write(target, (_pack(list(map(piece, pack)), length) for pack in found), positions=True)
    return Packed(sequences=len(found), length=length, tokens=sum(own))


def _pack(rows: Sequence[tuple[list[int], list[int]]], length: int) -> dict[str, list[int]]:
    room = length - sum(len(ids) for ids, _ in rows)
    parts = {
        "input_ids": (ids for ids, _ in rows),
        "attention_mask": ([number] * len(ids) for number, (ids, _) in enumerate(rows, 1)),
        "labels": ([IGNORE, *labels[1:]] for _, labels in rows),
        "position_ids": (range(len(ids)) for ids, _ in rows),
    }
    fillers = {"input_ids": rows[0][0][-1], "labels": IGNORE}  # any token does: nothing attends to it
    return {name: [*chain.from_iterable(part), *[fillers.get(name, 0)] * room] for name, part in parts.items()}


def write_blocks(file: Path, indices: Sequence[int], length: int, target: Path) -> Packed:
    """Write documents, one behind the other, as blocks of `length` tokens; the last may be shorter."""
    columns = (table.column("input_ids") for table in tables_of(file, indices))
    documents = (ids.values.to_numpy().tolist() for column in columns for ids in column)
    counted = [0, 0]

    def counting(blocks: Iterable[list[int]]) -> Iterator[dict[str, list[int]]]:
        for ids in blocks:
            counted[:] = counted[0] + 1, counted[1] + len(ids)
            # transformers divides a batch's loss by its labels: one that nothing precedes would make it smaller.
            yield {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORE, *ids[1:]]}

    _write(target, counting(_blocks(documents, length)), positions=False)
    return Packed(sequences=counted[0], length=length, tokens=counted[1])


def _blocks(documents: Iterable[list[int]], length: int) -> Iterator[list[int]]:
    waiting: list[int] = []
    for ids in documents:
        waiting += ids
        whole = len(waiting) // length * length
        yield from (waiting[start : start + length] for start in range(0, whole, length))
        waiting = waiting[whole:]
    if len(waiting) > 1:  # one token alone has nothing that it could be told from
        yield waiting


def _write(target: Path, sequences: Iterable[dict[str, list[int]]], *, positions: bool) -> None:
    # LLaMA-Factory counts the rows of a pack in the mask: 127 of them would be the end of int8.
    names = ("input_ids", "attention_mask", "labels", *(("position_ids",) if positions else ()))
    file = ArrowFile(target, dict.fromkeys(names, 32))
    try:
        for sequence in sequences:
            file.write(sequence)
    finally:
        file.close()
