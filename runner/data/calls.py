"""Tool calls, their results and the tools themselves, of the shapes that people have, in the one that templates know.

OpenAI's: {"tool_calls": [{"id": …, "function": {"name": …, "arguments": "{…}"}}]} and, older, {"function_call": …};
ShareGPT's: {"from": "function_call", "value": "{\"name\": …, \"arguments\": {…}}"} and "observation"; those in a
reply's text: runner/data/tagged.py.
"""

from __future__ import annotations

import json
from typing import Any

from recipes.encode import BadRow, Message
from runner.data.honoured import empty

RESULT_ROLES = ("tool", "observation", "function", "tool_response", "tool_result", "ipython")
CALL_ROLES = ("function_call", "tool_call", "tool_calls")
NO_DEFAULT = "tools: `default: null` is left out, as tables add it everywhere; tools as JSON text are taken as they are"
EXPECTED = 'expected {"name": …, "arguments": {…}}'


def calls_of(value: Any, place: str) -> list[Message]:
    """Calls as templates know them: their arguments an object.

    Raises:
        BadRow: one has no name, or arguments that are no object.
    """
    written, value = isinstance(value, str), _loaded(value, place)
    found = value if isinstance(value, (list, tuple)) else [value]
    if not found:
        raise BadRow(f"{place}: no call; {EXPECTED}")
    return [_call(one, f"{place}[{n}]" if len(found) > 1 else place, written) for n, one in enumerate(found)]


def _call(value: Any, place: str, written: bool) -> Message:
    """A call; of what is `written`, as JSON text, no table has added anything."""
    written, value = written or isinstance(value, str), _loaded(value, place)
    if not isinstance(value, dict):
        raise BadRow(f"{place}: {_shown(value)} is no call; {EXPECTED}")
    given = _loaded(value.get("function") or value, place)
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise BadRow(f"{place}: a call without a name; {EXPECTED}")
    said: Any = next((given[key] for key in ("arguments", "parameters", "args") if given.get(key) is not None), {})
    arguments = _loaded(said, f"{place}: arguments of {name[:60]}") if said != "" else {}
    if not isinstance(arguments, dict):
        raise BadRow(f"{place}: arguments of {name[:60]} must be an object, not {_shown(arguments)}")
    if not (written or isinstance(said, str)):  # tables give every call the arguments of all: null there was not given
        arguments = {str(key): item for key, item in arguments.items() if item is not None}
    number = {"id": str(value["id"])} if not empty(value.get("id")) else {}
    return {**number, "type": "function", "function": {"name": name, "arguments": arguments}}


def tools_of(value: Any, notes: list[str]) -> list[Message]:
    """The tools that a row says there are, each {"type": "function", "function": {…}}.

    Args:
        notes: gets what is to be said of what was left out.

    Raises:
        BadRow: one has no name.
    """
    given = _loaded(value, "tools")
    found = given if isinstance(given, (list, tuple)) else [given]
    tools = []
    for number, one in enumerate(found):
        tool = _loaded(one, f"tools[{number}]")
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow(f'tools[{number}]: expected {{"name": …, "description": …, "parameters": {{…}}}}')
        whole = {"type": "function", "function": function}
        as_text = isinstance(value, str) or isinstance(one, str)
        tools.append(whole if as_text else _without_null(whole))
        if tools[-1] != whole and _defaults(whole) and NO_DEFAULT not in notes:
            notes.append(NO_DEFAULT)
    return tools


def _defaults(value: Any) -> bool:
    """Whether null is a default somewhere, which may be meant, or only be what a table adds."""
    if isinstance(value, dict):
        return any((key == "default" and item is None) or _defaults(item) for key, item in value.items())
    return isinstance(value, (list, tuple)) and any(map(_defaults, value))


def number_calls(messages: list[Message]) -> None:
    """Give calls the ids that they lack, and results the id and the name of the call that they answer.

    A result without an id answers the earliest call that has none yet: templates of Mistral's kind refuse what has no
    ids, of nine letters and digits; others head a result with the function's name.

    Raises:
        BadRow: a result answers no call.
    """
    open_calls: dict[str, str] = {}
    count = 0
    for place, message in enumerate(messages):
        for call in message.get("tool_calls", ()):
            count += 1
            call.setdefault("id", f"call{count:05d}")
            open_calls[call["id"]] = call["function"]["name"]
        if message["role"] == "tool":
            named = (n for n, name in open_calls.items() if name == message.get("name"))
            number = message.get("tool_call_id") or next(named, next(iter(open_calls), ""))
            if number not in open_calls:
                of = f" of {number[:60]!r}" if number else ""
                raise BadRow(f"turn {place + 1}: a result{of} that answers no call before it")
            message["tool_call_id"], name = number, open_calls.pop(number)
            message.setdefault("name", name)


def _loaded(value: Any, place: str) -> Any:
    """JSON that stands as text, as OpenAI's arguments and the cells of tables do."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BadRow(f"{place}: {_shown(value)} is not JSON") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _without_null(value: Any) -> Any:
    """A tool without what tables add to make all rows alike."""
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, (list, tuple)) else value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(text[:60])
