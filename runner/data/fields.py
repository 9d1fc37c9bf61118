"""Takes texts and messages out of a raw row, in the shapes that people have, and keeps in mind what was read."""

from __future__ import annotations

import json
import math
from typing import Any

from recipes.encode import BadRow, Message
from runner.data import honoured
from runner.data.honoured import empty

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
TOOL_ROLES = ("tool", "observation", "function", "function_call", "tool_call", "tool_response", "ipython")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # a reply's thinking, as APIs give it beside the content
TEXT_PARTS = ("text", "input_text", "output_text")


class Fields(dict[str, Any]):
    """A row under our column names, which keeps in mind what was read of it."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.read: set[str] = set()
        self.unused: set[str] = set()  # in messages

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


def text(row: Fields, key: str, *, optional: bool = False) -> str:
    if key not in row and not optional:
        raise BadRow(f"no {key!r}; it has {', '.join(map(str, row))[:200]}")
    value = row.get(key)
    if isinstance(value, float) and math.isnan(value):
        value = None  # as pandas writes an absent cell
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    found = "" if value is None else _joined(value, key)
    if not found.strip() and not optional:
        raise BadRow(f"{key} is empty")
    return found


def _joined(value: Any, place: str) -> str:
    """A text, or a list of text parts as chat APIs have them."""
    if isinstance(value, str):
        return value
    if not (isinstance(value, (list, tuple)) and all(isinstance(part, dict) for part in value)):
        raise BadRow(f"{place} is {'null' if value is None else type(value).__name__}, not text")
    texts = []
    for part in value:
        kind, text = part.get("type"), part.get("text")
        if kind not in TEXT_PARTS or not isinstance(text, str):
            raise BadRow(f"{place} has a part of type {str(kind)[:60]!r}: {honoured.MEDIA}")
        texts.append(text)
    return "".join(texts)


def loaded(value: Any) -> Any:
    """CSV cells carry lists as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def messages_in(value: Any) -> list[Any]:
    """The messages that a value is, if it is any; a reply may well be the text of a JSON list."""
    value = loaded(value)
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, (list, tuple)):
        return []
    keys = {str(key).lower() for item in items if isinstance(item, dict) for key in item}
    return list(items) if keys & {"role", "from"} else []


def turns(row: Fields, value: Any, key: str) -> list[Message]:
    """A list of messages, of role and content or of from and value."""
    value = loaded(value)
    if isinstance(value, str) and value.strip():
        raise BadRow(f"{key} is a text that is no JSON list of messages")
    if not isinstance(value, (list, tuple)) or not value:
        raise BadRow(f"{key} must be a list of messages that is not empty")
    return [_message(row, turn, key, n) for n, turn in enumerate(value)]


def _message(row: Fields, given: Any, key: str, number: int) -> Message:
    place = f"{key}[{number}]"
    if not isinstance(given, dict):
        raise BadRow(f"{place} must be a message of role and content, not {type(given).__name__}")
    turn = {str(name).lower(): value for name, value in given.items()}
    if len(turn) < len(given):
        raise BadRow(f"{place} has a key twice, in capitals and not")
    role_key = "from" if empty(turn.get("role")) else "role"
    other = "content" not in turn or (empty(turn["content"]) and not empty(turn.get("value")))
    text_key = "value" if other else "content"
    if role_key not in turn or not (text_key in turn or "tool_calls" in turn or "function_call" in turn):
        raise BadRow(f"{place} must have 'role' and 'content', or 'from' and 'value'")
    name = str(turn[role_key]).lower()
    if name in TOOL_ROLES:
        raise BadRow(f"{place}: a turn of {name[:60]!r} is not honoured: {honoured.TOOLS}")
    thought_key = next((k for k in THOUGHTS if not empty(turn.get(k))), "") if ROLES.get(name) == "assistant" else ""
    unused = honoured.refuse(turn, {role_key, text_key, thought_key}, place)
    row.unused |= {f"{key}[].{name}" for name in unused}
    if name not in ROLES:
        raise BadRow(f"{place}: {role_key} is {str(turn[role_key])[:60]!r}; allowed: {', '.join(ROLES)}")
    said = _joined(turn.get(text_key), f"{place}: {text_key}")
    if ROLES[name] == "assistant" and not said.strip():
        raise BadRow(f"{place}: the reply is empty")
    thought = {"reasoning_content": _joined(turn[thought_key], f"{place}: {thought_key}")} if thought_key else {}
    return {"role": ROLES[name], "content": said, **thought}


def dialogue(row: Fields, value: Any, key: str) -> list[Message]:
    found = turns(row, value, key)
    if found[-1]["role"] != "assistant":
        raise BadRow(f"{key} ends on a {found[-1]['role']} turn: there is no reply to learn")
    return found
