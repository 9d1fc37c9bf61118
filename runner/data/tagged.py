"""Calls and results that stand in a text between tags, as Hermes's rows have them, taken out of it.

A reply: its text, then one block or several of <tool_call>{"name": …, "arguments": {…}}</tool_call>; a turn of tool:
<tool_response>…</tool_response>, for each call. Templates write calls and results in a form of their own.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Collection
from typing import TypeGuard

from recipes.encode import BadRow, Message
from runner.data.calls import calls_of
from runner.data.thinking import thinking_before

CLOSED = "</tool_call>"
CALL, END = re.compile(r"<tool_call>\s*(?=[\[{])"), re.compile(r"\s*</tool_call>\s*")
# A tag inside of a result's own text ends nothing.
RESULT = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>\s*(?=<tool_response>|\Z)", re.DOTALL)
TOLD_TWICE = "tools: the system prompt lists them too (<tools>), so the model is told them twice"
DECODER = json.JSONDecoder()


def told_in(first: Message) -> bool:
    """Whether a system turn lists the tools that it has beside it."""
    _, begun, listed = first["content"].partition("<tools>")
    names = (tool["function"]["name"] for tool in first["tools"])
    return first["role"] == "system" and bool(begun) and all(name in listed for name in names)


def tagged(value: object) -> TypeGuard[str]:
    """Whether a value is a text that begins with a call between tags."""
    return isinstance(value, str) and CALL.match(value.lstrip()) is not None


def untagged(messages: list[Message], key: str, *, tools: bool) -> list[Message]:
    """The messages of a row with what stands between tags as calls and results.

    A row without results or tools is about something else: its tags are text.

    Args:
        key: the column of the messages, for what is wrong.
        tools: whether the row has tools.

    Raises:
        BadRow: a block is no call, or text stands behind one.
    """
    if not tools and all(message["role"] != "tool" for message in messages):
        return messages
    found: list[Message] = []
    names: set[str] = set()  # of the calls that are to be answered
    for n, message in enumerate(messages):
        if message["role"] == "tool" or (names and _of_user(message)):
            found += _results(message, names)
            continue
        answered = n + 1 < len(messages) and (messages[n + 1]["role"] == "tool" or _of_user(messages[n + 1]))
        found.append(with_calls(message, f"{key}[{n}]", answered=answered))
        names = {call["function"]["name"] for call in found[-1].get("tool_calls", ())}
    return found


def with_calls(message: Message, place: str, *, answered: bool = False) -> Message:
    """The reply with its blocks as calls, where a result answers it or it ends on one; else they are spoken of.

    Raises:
        BadRow: a block is no call, text stands behind one, or there are calls beside the text too.
    """
    text = message["content"]
    if message["role"] != "assistant" or not (answered or text.rstrip().endswith(CLOSED)):
        return message
    said, calls = calls_in(text, place)
    if calls and "tool_calls" in message:
        raise BadRow(f"{place}: calls in its text, and others beside it; give them in one place")
    return {**message, "content": said, "tool_calls": calls} if calls else message


def calls_in(text: str, place: str) -> tuple[str, list[Message]]:
    """The text before the calls, and the calls; those that its thinking speaks of are none.

    Raises:
        BadRow: a block is no call, or text stands behind one.
    """
    first = CALL.search(text, len(text) - len(thinking_before(text)[1]))
    if not first:
        return text, []
    calls: list[Message] = []
    at = first.start()
    while begun := CALL.match(text, at):
        written, at = _block(text, begun.end(), place)
        calls += calls_of(written, f"{place}: <tool_call>")
    if text[at:]:
        raise BadRow(f"{place}: text behind a <tool_call>, where no template writes any: {text[at:][:60]!r}")
    return text[: first.start()].rstrip(), calls


def _block(text: str, begin: int, place: str) -> tuple[str, int]:
    """The JSON of the block whose object begins there, and where the text behind the block begins."""
    try:
        end = DECODER.raw_decode(text, begin)[1]
        written = text[begin:end]
    except (ValueError, RecursionError):
        end = text.find(CLOSED, begin)
        end = len(text) if end < 0 else end
        written = _as_json(text[begin:end], place)
    closed = END.match(text, end)
    if not closed:
        raise BadRow(f"{place}: <tool_call>: {text[end : end + 60]!r} stands behind the call, not </tool_call>")
    return written, closed.end()


def _as_json(text: str, place: str) -> str:
    """What Python shows of a call, {'name': …}, which a part of Hermes's rows have, as JSON."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            return json.dumps(ast.literal_eval(text.strip()), ensure_ascii=False, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise BadRow(f"{place}: <tool_call>: {text[:60]!r} is not JSON") from None


def _of_user(message: Message) -> bool:
    """Whether it is results that stand in a turn of the user, as Qwen's template writes them."""
    return message["role"] == "user" and [turn["role"] for turn in _results(message, ())] != ["user"]


def _results(message: Message, names: Collection[str]) -> list[Message]:
    """The results of a turn, each a turn of its own; one that has text around its tags stays as it is."""
    text, at, found = message["content"], 0, list[Message]()
    while part := RESULT.match(text, at):
        at = part.end()
        own = {} if found else message  # an id is of one result
        found.append({**own, **_named(part[1], names), "role": "tool", "content": part[1]})
    return found if found and at == len(text) else [message]


def _named(text: str, names: Collection[str]) -> Message:
    """The call that a result says it is of: {"name": …, "content": …}."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    name = value.get("name") if isinstance(value, dict) else None
    return {"name": name} if isinstance(name, str) and name in names else {}
