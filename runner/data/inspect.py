"""Looks at a recipe's rows through the preparation that training uses: one row as it is trained on, or a check of all.

Usage: python -m runner.data.inspect SPEC.json

SPEC holds a runner.data.inspected.InspectSpec; a Preview or a Checked goes to its `target`. What is wrong with the
data as a whole goes to `problems.json`, exit code 2.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from recipes.documents import Documents
from recipes.encode import IGNORE, Encoded, Encoder
from recipes.errors import UserError
from recipes.files import write_json
from recipes.methods import FEEDBACK, METHODS, Rows
from recipes.typed import read_typed, write_typed
from runner.data.asked import asked
from runner.data.check import check, method_of
from runner.data.formats import Raw
from runner.data.inspected import InspectSpec, Part, Preview, Span
from runner.data.notes import printable
from runner.data.passes import Preparation, Stop
from runner.data.prepare import encoder_of, scored_of
from runner.data.read import BadData
from runner.data.shares import limited
from runner.data.spec import PrepareSpec
from runner.data.written import held_out


def preview(spec: PrepareSpec, row: int, *, diff: bool = False) -> Preview:
    """The training row of that number, from 1, as it is before packing.

    Args:
        diff: compare the ids before each reply with those that a model would be asked by.

    Raises:
        Stop: there is none.
    """
    encoder = encoder_of(spec)
    train = Preparation(spec, encoder, scored_of(spec))
    validation = spec.data.validation
    if validation.sources or not validation.fraction:
        canonical, parts, truncated = _nth(train, spec, row)
    else:
        canonical, parts, truncated = _around(train, spec, _number(spec, encoder, row))
    names = part_names(METHODS[spec.method].rows)
    replies = zip(names, parts, train.conversations(canonical), strict=False) if diff else ()
    return Preview(
        row=row,
        place=printable(train.place),
        truncated=truncated,
        parts=tuple(
            part_of(name, part.ids, part.labels, encoder.tokenizer) for name, part in zip(names, parts, strict=True)
        ),
        notes=tuple(map(printable, train.own_notes)) + _said(canonical),
        problems=tuple(train.problems.lines()),
        asked=tuple(
            found
            for name, part, messages in replies
            if isinstance(encoder, Encoder)
            for found in asked(name, part, messages, encoder, last_only=train.last_only)
        ),
    )


def _said(canonical: Raw) -> tuple[str, ...]:
    return (f"label: {str(canonical['label']).lower()}",) if "label" in canonical else ()


def _number(spec: PrepareSpec, encoder: Encoder | Documents, row: int) -> int:
    """The number of a training row among all that are read, where some are held out by their count.

    Which rows are kept is only known by their tokens: each is encoded once for that.
    """
    every = Preparation(spec, encoder, scored_of(spec))
    numbers = array("L", (every.number for _ in _rows(every, spec)))
    chosen = held_out(len(numbers), spec.data.validation.fraction, spec.data.seed)
    trained = (number for n, number in enumerate(numbers) if n not in chosen)
    found = next(islice(trained, row - 1, None), None)
    if found is None:
        raise Stop(f"no training row {row}: there are {len(numbers) - len(chosen)}, and {len(chosen)} are held out")
    return found


def _around(train: Preparation, spec: PrepareSpec, number: int) -> tuple[Raw, list[Encoded], bool]:
    for found in train.rows_around(spec.data.train, number):
        if train.number == number:
            return found
    raise Stop("the data changed while they were read")


def _nth(train: Preparation, spec: PrepareSpec, row: int) -> tuple[Raw, list[Encoded], bool]:
    count = 0
    for found in _rows(train, spec):
        count += 1
        if count == row:
            return found
    dropped = "".join(f"; {n} dropped ({reason})" for reason, n in train.dropped.items())
    raise Stop(f"no training row {row}: there are {count}{dropped}")


def _rows(train: Preparation, spec: PrepareSpec) -> Iterator[tuple[Raw, list[Encoded], bool]]:
    try:
        yield from train.rows(spec.data.train)
    except BadData as error:
        raise Stop(*train.problems.lines(), printable(str(error))) from None


def part_names(kind: Rows) -> tuple[str, ...]:
    if kind is FEEDBACK:
        return ("", "for the KL term: this prompt with the reply of another row")
    if not kind.columns:
        return ("prompt; the backend adds what opens the reply",)
    return tuple(column.rstrip("_") for column in kind.columns)


def part_of(name: str, ids: list[int], labels: list[int], tokenizer: Any) -> Part:
    """Tokens and labels, as many of the one as of the other, with their text."""
    loss = tuple(label != IGNORE for label in labels)
    return Part(
        name=name,
        ids=tuple(ids),
        loss=loss,
        pieces=tuple(_piece(tokenizer, number) for number in ids),
        spans=tuple(_spans(ids, loss, tokenizer)),
    )


def _spans(ids: list[int], loss: tuple[bool, ...], tokenizer: Any) -> Iterator[Span]:
    """Text by what each run of tokens adds to all before it: alone, SentencePiece would lose its first space."""
    end, before = 0, ""
    for has_loss, run in groupby(loss):
        begin, end = end, end + len(list(run))
        whole = _decoded(tokenizer, ids[:end])
        added = whole[len(before) :] if whole.startswith(before) else _decoded(tokenizer, ids[begin:end])
        before = whole
        yield Span(text=added, loss=has_loss)


def _piece(tokenizer: Any, number: int) -> str:
    text = _decoded(tokenizer, [number])
    return str(tokenizer.convert_ids_to_tokens(number)) if "\ufffd" in text or not text else text


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def main(spec_file: Path) -> int:
    spec = read_typed(InspectSpec, spec_file)
    try:
        spec = replace(spec, prepare=replace(spec.prepare, data=limited(spec.prepare.data)))
        if spec.row:
            write_typed(spec.target, preview(spec.prepare, spec.row, diff=spec.diff))
        else:
            prepare = spec.prepare
            if spec.told_by_rows:
                prepare = replace(prepare, method=method_of(prepare.data.train[0]))
            write_typed(spec.target, check(prepare, encoder_of(prepare), spec.shown, scored_of(prepare)))
    except BadData as error:
        write_json(spec.prepare.directory / "problems.json", [printable(str(error))])
        return 2
    except (Stop, UserError) as stop:
        write_json(spec.prepare.directory / "problems.json", [str(problem) for problem in stop.problems])
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
