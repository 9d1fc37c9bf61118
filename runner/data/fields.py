"""Takes texts and messages out of a raw row, in the shapes that people have, and keeps in mind what was read."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from recipes.encode import BadRow, Message
from runner.data import honoured
from runner.data.calls import CALL_ROLES, RESULT_ROLES, calls_of, number_calls
from runner.data.columns import lacking
from runner.data.honoured import empty
from runner.data.irregular import Policy, regular
from runner.data.tagged import calls_in, tagged, untagged
from runner.data.thinking import thinking_before

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    **dict.fromkeys(CALL_ROLES, "assistant"),
    **dict.fromkeys(RESULT_ROLES, "tool"),
}
TOOLS = ("tools", "functions")  # the second is OpenAI's older name
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # a reply's thinking, as APIs give it beside the content
TEXT_PARTS = ("text", "input_text", "output_text")
ROLE_AND_TEXT, FROM_AND_VALUE = {"role", "content"}, {"from", "value"}
# A list of messages, or a whole message: an object that only has a role is some other thing.
AS_PYTHON = re.compile(
    r"\s*(?:\[\s*\{'(?:role|content|from|value)':"
    r"|\{'(?=.*\b(?:role|from)':)(?=.*\b(?:content|value)':)(?:role|content|from|value)':.*\}\s*\Z)",
    re.IGNORECASE | re.DOTALL,
)
AS_JSON = "write a row a line: to_json(…, orient='records', lines=True)"


class Fields(dict[str, Any]):
    """A row under our column names, which keeps in mind what was read of it."""

    def __init__(self, values: dict[str, Any], irregular: Policy = "error") -> None:
        super().__init__(values)
        self.irregular = irregular  # what becomes of conversations that do not alternate
        self.notes: list[str] = []  # what was done to the row
        self.read: set[str] = set()
        self.unused: set[str] = set()  # in messages

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


def text(row: Fields, key: str, *, optional: bool = False) -> str:
    if key not in row and not optional:
        raise BadRow(lacking(row, key))
    value = row.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    found = "" if _absent(value) else as_text(value, key)
    if not found.strip() and not optional:
        raise BadRow(f"{key} is empty")
    return found


def _absent(value: Any) -> bool:
    """Null, also as pandas writes it in an absent cell."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_text(value: Any, place: str) -> str:
    """A text, or a list of text parts as chat APIs have them."""
    if isinstance(value, str):
        return value
    if not (isinstance(value, (list, tuple)) and all(isinstance(part, dict) for part in value)):
        raise BadRow(f"{place} is {'null' if _absent(value) else type(value).__name__}, not text{_by_columns(value)}")
    texts = []
    for part in value:
        kind, text = part.get("type"), part.get("text")
        if kind not in TEXT_PARTS or not isinstance(text, str):
            raise BadRow(f"{place} has a part of type {str(kind)[:60]!r}: {honoured.MEDIA}")
        texts.append(text)
    return "".join(texts)


def _by_columns(value: Any) -> str:
    """A hint where a value looks like the cells of a whole column, as pandas' `to_json` and `to_dict` write them."""
    numbered = isinstance(value, dict) and bool(value) and all(str(key).isdigit() for key in value)
    cells = isinstance(value, (list, tuple)) and bool(value) and all(isinstance(one, str) for one in value)
    hint = f"; is the file written by columns? {AS_JSON}"
    return hint if numbered or cells else ""


def loaded(value: Any) -> Any:
    """CSV cells carry lists and objects as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def messages_in(value: Any) -> list[Any]:
    """The messages that a value is, if it is any, or the JSON text of such.

    Raises:
        BadRow: they are written as Python shows them.
    """
    if isinstance(value, str) and AS_PYTHON.match(value):
        raise BadRow(f"messages as Python shows them, {value[:40]!r}: pandas' to_csv writes these; {AS_JSON}")
    given = loaded(value)
    items = [given] if isinstance(given, dict) else given
    if not isinstance(items, (list, tuple)):
        return []
    keys = [{str(key).lower() for key in item} if isinstance(item, dict) else set() for item in items]
    if isinstance(value, str):  # a reply may well be the text of another JSON list, or object
        if isinstance(given, dict) and not {str(item).lower() for item in given.values()} & ROLES.keys():
            return []
        return list(items) if keys and all(one >= ROLE_AND_TEXT or one >= FROM_AND_VALUE for one in keys) else []
    return list(items) if set().union(*keys) & {"role", "from"} else []


def tools_key(row: Fields) -> str:
    """The column under which a row has tools; empty where it has none."""
    return next((key for key in TOOLS if key in row and not empty(row[key]) and row[key] is not False), "")


def turns(row: Fields, value: Any, key: str) -> list[Message]:
    """A list of messages, of role and content or of from and value."""
    value = loaded(value)
    if value is None and key not in row:
        raise BadRow(lacking(row, key))
    if isinstance(value, str) and value.strip():
        raise BadRow(f"{key} is a text that is no JSON list of messages")
    if not isinstance(value, (list, tuple)) or not value:
        raise BadRow(f"{key} must be a list of messages that is not empty")
    found = [_message(row, turn, key, n) for n, turn in enumerate(value)]
    found = untagged(found, key, tools=bool(tools_key(row)))
    number_calls(found)
    return found


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
    role = ROLES.get(name)
    more, used = _beside(turn, role, place)
    unused = honoured.refuse(turn, {role_key, text_key, *used}, place)
    row.unused |= {f"{key}[].{name}" for name in unused}
    if role is None:
        raise BadRow(f"{place}: {role_key} is {str(turn[role_key])[:60]!r}; allowed: {', '.join(ROLES)}")
    value = turn.get(text_key)
    if name in CALL_ROLES and "tool_calls" not in more:
        thought, call = thinking_before(value) if isinstance(value, str) else ("", value)
        at = f"{place}: {text_key}"
        calls = calls_in(call, at)[1] if tagged(call) else calls_of(call, at)
        return {"role": role, "content": thought, **more, "tool_calls": calls}
    nothing = _absent(value) and (role == "tool" or "tool_calls" in more)  # a result may well be empty
    said = "" if nothing else as_text(value, f"{place}: {text_key}")
    if role == "assistant" and not said.strip() and "tool_calls" not in more:
        raise BadRow(f"{place}: the reply is empty")
    return {"role": role, "content": said, **more}


def _beside(turn: Message, role: str | None, place: str) -> tuple[Message, set[str]]:
    """What counts of a message besides its text, and the keys that were read for it."""
    said = {name: value for name, value in turn.items() if not empty(value)}
    weights = {name for name in ("weight", "loss", "train") if honoured.truth(said.get(name)) is not None}
    if role == "tool":
        names = {"name", "tool_call_id"} & set(said)
        return {name: str(said[name]) for name in names}, names | weights
    if role != "assistant":
        return {}, weights
    more: Message = {}
    thought = next((name for name in THOUGHTS if name in said), "")
    if thought:
        more["reasoning_content"] = as_text(said[thought], f"{place}: {thought}")
    call = next((name for name in ("tool_calls", "function_call", "tool_call") if name in said), "")
    if call:
        more["tool_calls"] = calls_of(said[call], f"{place}: {call}")
    if any(honoured.truth(said[name]) is False for name in weights):
        more["weight"] = 0
    return more, {thought, call, *weights}


def dialogue(row: Fields, value: Any, key: str, *, reply: bool = True) -> list[Message]:
    """The turns of a conversation that ends on a reply, or before one."""
    return alternating(row, turns(row, value, key), key, reply=reply)


def alternating(row: Fields, messages: list[Message], key: str, *, reply: bool = True) -> list[Message]:
    found, done = regular(messages, row.irregular, key, reply=reply)
    row.notes += done
    return found
