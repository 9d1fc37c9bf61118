"""The first replies that a run trains on, with the tokens before each: a model in use must be asked by the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from recipes.encode import IGNORE
from recipes.methods import CONVERSATIONS, FEEDBACK, METHODS
from recipes.typed import write_typed
from runner.data.formats import Raw
from runner.data.packs import Rows
from runner.data.written import Writer

FILE, ROWS = "replies.json", 4
PLAIN = {"role", "content"}  # keys of a message that every server takes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply with loss.

    row: of data/train.jsonl, from 1. turn: the reply's in the conversation, from 1. messages: those before it.
    ids: the tokens before it, as they are trained on.
    """

    row: int
    turn: int
    messages: tuple[Mapping[str, Any], ...]
    ids: tuple[int, ...]


def write_replies(writer: Writer, indices: Sequence[int], method: str, directory: Path, *, last_only: bool) -> None:
    """Write the replies of the first training rows; none of rows with tools, which servers want in other shapes."""
    kind = METHODS[method].rows
    rows = Rows(writer.directory / "rows.arrow", kind.columns[0])
    found: list[Reply] = []
    with (directory / "train.jsonl").open(encoding="utf-8") as lines:
        for number, (index, line) in enumerate(zip(islice(indices, ROWS), lines, strict=False), 1):
            row = json.loads(line)
            if kind is CONVERSATIONS:
                messages = row["messages"]
            else:
                messages = row["prompt"] + row["completion" if kind is FEEDBACK else "chosen"]
            if all(message.keys() <= PLAIN for message in messages):
                found += _replies(number, messages, *rows[index], last_only=last_only)
    write_typed(directory / FILE, tuple(found))


def _replies(row: int, messages: Sequence[Raw], ids: Any, labels: Any, *, last_only: bool) -> Iterator[Reply]:
    turns = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    begins = [n for n, (before, label) in enumerate(pairwise([IGNORE, *labels])) if before == IGNORE != label]
    # Between two replies stands at least the opening of the second, which has no loss.
    for turn, begin in zip(turns[-1:] if last_only else turns, begins, strict=False):
        yield Reply(row=row, turn=turn + 1, messages=tuple(messages[:turn]), ids=tuple(ids[:begin]))
