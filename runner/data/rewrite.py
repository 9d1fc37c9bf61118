"""Canonical rows as rows of a data format: the way back from runner.data.formats, and held to it row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from recipes.encode import BadRow, Message
from recipes.methods import METHODS, Rows
from recipes.types import Source
from runner.data.formats import Raw, convert
from runner.data.spec import source_of


def rows_of(format_name: str) -> Rows:
    """What kind of rows a format becomes."""
    return next(method.rows for method in METHODS.values() if format_name in method.rows.formats)


def rewritten(row: Raw, came_as: str, to: str) -> Raw:
    """A canonical row, which was read as one format, in another, so that it reads back as the same.

    Raises:
        BadRow: the other format has no place for what the row holds.
    """
    if rows_of(came_as) is not rows_of(to):
        others = ", ".join(name for name in rows_of(came_as).formats if name in WRITERS)
        raise BadRow(f"rows of {came_as} are no {to}: each holds other things; allowed: {others}")
    source, why = source_of("converted"), ""
    for candidate in WRITERS[to](row):
        try:
            if convert(candidate, to, source, "error").row == row:
                return candidate
        except BadRow as error:
            why = f": {error}"
    raise BadRow(f"it does not fit {to}{why or _beyond_text(row)}")


def _beyond_text(row: Raw) -> str:
    """What some formats have no place for, of a conversation: more than text, or turns in another order."""
    turns: list[Message] = row.get("messages") or row.get("prompt") or []
    held = {key for turn in turns for key in turn} - {"role", "content", "name", "tool_call_id"}
    if held:
        return f", which has no place for {' and '.join(sorted(held))}"
    return f", which has no place for turns of {', '.join(turn['role'] for turn in turns)[:200]}" if turns else ""


def canonical(value: Any, format_name: str, source: Source) -> tuple[Raw, set[str]]:
    """A raw row in canonical form, and the columns that nothing read.

    Raises:
        BadRow: it is malformed.
    """
    found = convert(value, format_name, source, "error")
    return found.row, found.unused


def _alpaca(row: Raw) -> Iterator[Raw]:
    system, turns, tools = _parts(row["messages"])
    texts = _alternating(turns)
    if texts and not tools:
        *history, (question, answer) = texts
        found: Raw = {"instruction": question, "input": "", "output": answer, **system}
        yield {**found, "history": [list(pair) for pair in history]} if history else found


def _prompt_response(row: Raw) -> Iterator[Raw]:
    system, turns, tools = _parts(row["messages"])
    *before, reply = turns
    yield {"prompt": _text(before), "response": _text([reply]), **system, **tools}
    yield {"prompt": before, "response": [reply], **system, **tools}


def _messages(row: Raw) -> Iterator[Raw]:
    _, _, tools = _parts(row["messages"])
    yield {"messages": [_without_tools(turn) for turn in row["messages"]], **tools}


def _conversations(row: Raw) -> Iterator[Raw]:
    names = {"user": "human", "assistant": "gpt"}
    _, _, tools = _parts(row["messages"])
    turns = [
        {
            "from": names.get(turn["role"], turn["role"]),
            "value": turn["content"],
            **{key: value for key, value in turn.items() if key not in ("role", "content", "tools")},
        }
        for turn in row["messages"]
    ]
    yield {"conversations": turns, **tools}


def _preference(row: Raw) -> Iterator[Raw]:
    system, turns, tools = _parts(row["prompt"])
    chosen, rejected = row["chosen"], row["rejected"]
    more = {**system, **tools}
    yield {"prompt": _text(turns), "chosen": _text(chosen), "rejected": _text(rejected), **more}
    yield {"prompt": turns, "chosen": chosen, "rejected": rejected, **more}


def _ranked(row: Raw) -> Iterator[Raw]:
    for pair in _preference(row):
        replies = [pair.pop("chosen"), pair.pop("rejected")]
        yield {**pair, "completions": replies, "ranks": [1, 2]}  # how much better the first one is nobody said


def _feedback(row: Raw) -> Iterator[Raw]:
    system, turns, tools = _parts(row["prompt"])
    more = {"label": row["label"], **system, **tools}
    yield {"prompt": _text(turns), "completion": _text(row["completion"]), **more}
    yield {"prompt": turns, "completion": row["completion"], **more}


def _prompts(row: Raw) -> Iterator[Raw]:
    system, turns, _ = _parts(row["prompt"])
    yield {"prompt": _text(turns), "answer": row["answer"], **system}
    yield {"prompt": turns, "answer": row["answer"], **system}


def _document(row: Raw) -> Iterator[Raw]:
    yield {"text": row["text"]}


WRITERS: dict[str, Callable[[Raw], Iterator[Raw]]] = {
    "alpaca": _alpaca,
    "prompt_response": _prompt_response,
    "messages": _messages,
    "conversations": _conversations,
    "preference": _preference,
    "ranked": _ranked,
    "feedback": _feedback,
    "prompts": _prompts,
    "text": _document,
}


def _parts(messages: list[Message]) -> tuple[Raw, list[Message], Raw]:
    """The system prompt as a column, the other turns, the tools as a column."""
    tools = {"tools": messages[0]["tools"]} if "tools" in messages[0] else {}
    turns = [_without_tools(turn) for turn in messages]
    if turns[0]["role"] == "system":
        return {"system": turns[0]["content"]}, turns[1:], tools
    return {}, turns, tools


def _without_tools(turn: Message) -> Message:
    return {key: value for key, value in turn.items() if key != "tools"}


def _text(turns: list[Message]) -> Any:
    """The text of the only turn where that is all there is; else the turns."""
    plain = len(turns) == 1 and set(turns[0]) == {"role", "content"}
    return turns[0]["content"] if plain else turns


def _alternating(turns: list[Message]) -> list[tuple[str, str]]:
    """Questions with their answers; none where the turns are others, or hold more than text."""
    plain = all(set(turn) == {"role", "content"} for turn in turns)
    roles = [turn["role"] for turn in turns]
    if not plain or len(turns) % 2 or roles != ["user", "assistant"] * (len(turns) // 2):
        return []
    return [(a["content"], b["content"]) for a, b in list(pairwise(turns))[::2]]
