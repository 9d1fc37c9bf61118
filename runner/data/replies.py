"""The first replies that a run trains on, with the tokens before each: a model in use must be asked by the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from recipes.encode import IGNORE
from recipes.methods import CONVERSATIONS, FEEDBACK, METHODS
from recipes.typed import write_typed
from runner.data.arrow import tables_of
from runner.data.formats import Raw
from runner.data.written import Writer

FILE, ROWS = "replies.json", 4


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply with loss.

    row: of data/train.jsonl, from 1. turn: the reply's in the conversation, from 1. messages: those before it, the
    first with the conversation's tools, if any. ids: the tokens before it, as they are trained on.
    """

    row: int
    turn: int
    messages: tuple[Mapping[str, Any], ...]
    ids: tuple[int, ...]


def write_replies(writer: Writer, indices: Sequence[int], method: str, directory: Path, *, last_only: bool) -> None:
    """Write the replies of the first training rows."""
    prefix = METHODS[method].rows.columns[0]
    rows = chain.from_iterable(
        table.to_pylist() for table in tables_of(writer.directory / "rows.arrow", indices[:ROWS])
    )
    found: list[Reply] = []
    with (directory / "train.jsonl").open(encoding="utf-8") as lines:
        for number, (row, line) in enumerate(zip(rows, lines, strict=False), 1):
            ids, labels = row[f"{prefix}input_ids"], row[f"{prefix}labels"]
            found += replies_of(number, messages_of(json.loads(line), method), ids, labels, last_only=last_only)
    write_typed(directory / FILE, tuple(found))


def messages_of(row: Raw, method: str) -> list[Raw]:
    """The conversation of a canonical row; of a preference's two the chosen one."""
    kind = METHODS[method].rows
    if kind is CONVERSATIONS:
        found: list[Raw] = row["messages"]
        return found
    return [*row["prompt"], *row["completion" if kind is FEEDBACK else "chosen"]]


def replies_of(
    row: int, messages: Sequence[Raw], ids: Sequence[int], labels: Sequence[int], *, last_only: bool
) -> Iterator[Reply]:
    """The replies with loss of a conversation, each with what stands before it.

    Args:
        ids, labels: of its tokens, as many of the one as of the other; they may have been cut.
        last_only: only the last reply has loss.
    """
    turns = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    turns = [n for n in (turns[-1:] if last_only else turns) if messages[n].get("weight") != 0]
    begins = [n for n, (before, label) in enumerate(pairwise([IGNORE, *labels])) if before == IGNORE != label]
    # Between two replies stands at least the opening of the second, which has no loss.
    for turn, begin in zip(turns, begins, strict=False):
        yield Reply(row=row, turn=turn + 1, messages=tuple(messages[:turn]), ids=tuple(ids[:begin]))
