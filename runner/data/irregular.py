"""Conversations that do not alternate: made regular where `data.irregular` is merge, else named or dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from recipes.encode import BadRow, Message
from runner.data.honoured import Unwanted

Policy = Literal["error", "merge", "drop"]
JOINED = "turns of one speaker in a row are joined"
MOVED = "a system turn in the middle is joined to the user's turn after it"
CUT = "the turns behind the last reply are left out"
ADVICE = "set data.irregular: merge, or drop"


class Irregular(Unwanted):
    """A conversation that `data.irregular: drop` leaves out."""


def regular(messages: list[Message], policy: Policy, key: str, *, reply: bool) -> tuple[list[Message], list[str]]:
    """The conversation with its speakers taking turns, and what was done for that.

    Args:
        key: the row's column that holds it, for messages.
        reply: whether it must end on a reply; else it ends before one.

    Raises:
        BadRow: it is irregular and `policy` is error, or nothing regular can be made of it.
        Irregular: it is irregular and `policy` is drop.
    """
    problem = next(_problems(messages, key, reply=reply), None)
    if problem is None:
        return messages, []
    if policy == "drop":
        raise Irregular(f"irregular: {problem}")
    if policy == "error":
        raise BadRow(f"{problem}; {ADVICE}")
    end = next((n for n in range(len(messages), 0, -1) if messages[n - 1]["role"] == "assistant" or not reply), 0)
    if not end:
        raise BadRow(f"{key}: no turn of an assistant: there is no reply to learn")
    found, done = _merged(messages[:end], key)
    if problem := next(_problems(found, key, reply=reply), None):
        raise BadRow(problem)
    return found, list(dict.fromkeys([*done, *[CUT] * (end < len(messages))]))


def _problems(messages: list[Message], key: str, *, reply: bool) -> Iterator[str]:
    for n, message in enumerate(messages):
        role = message["role"]
        if n and role == messages[n - 1]["role"] != "tool":
            yield f"{key}[{n}]: two {role} turns in a row"
        elif n and role == "system":
            yield f"{key}[{n}]: a system turn in the middle"
    last = messages[-1]["role"] if messages else "no"
    if reply and last != "assistant":
        yield f"{key} ends on a {last} turn: there is no reply to learn"
    if not reply and last == "assistant":
        yield f"{key} ends on an assistant turn"


def _merged(messages: list[Message], key: str) -> tuple[list[Message], list[str]]:
    found: list[Message] = []
    done: list[str] = []
    waiting = ""  # of a system turn in the middle, for the user's turn after it
    for n, message in enumerate(messages):
        begins = len(found) == 1 and found[0]["role"] == "system"
        if n and message["role"] == "system" and not begins:
            waiting = _joined(waiting, message["content"])
            continue
        if waiting:
            if message["role"] != "user":
                raise BadRow(f"{key}[{n - 1}]: a system turn in the middle, and no turn of a user after it to join")
            message, waiting = {**message, "content": _joined(waiting, message["content"])}, ""
            done.append(MOVED)
        if found and found[-1]["role"] == message["role"] != "tool":
            found[-1] = _one(found[-1], message)
            done.append(JOINED)
        else:
            found.append(message)
    if waiting:
        raise BadRow(f"{key}[{len(messages) - 1}]: a system turn at the end, and no turn of a user after it to join")
    return found, done


def _one(first: Message, second: Message) -> Message:
    """Two turns of one speaker as one.

    Raises:
        BadRow: one of them is to be learned, and the other not.
    """
    if first.get("weight") != second.get("weight"):
        raise BadRow("two assistant turns in a row of different weights cannot be joined")
    made = {**first, **second, "content": _joined(first["content"], second["content"])}
    for key, join in (("reasoning_content", _joined), ("tool_calls", list.__add__)):
        if key in first and key in second:
            made[key] = join(first[key], second[key])
    return made


def _joined(first: str, second: str) -> str:
    return "\n\n".join(filter(None, (first, second)))
