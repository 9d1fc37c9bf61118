"""Tool calls in a conversation: how a chat template takes them, told by rendering a probe.

A call stands in a message as OpenAI's API has it, its arguments as an object; what tools there are, in the key `tools`
of the first message. Templates differ in whether they want the arguments as an object or as JSON text, and many know
neither calls nor tools: those would train on conversations that lack what they are about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

# role and content, both texts; of a reply also reasoning_content, tool_calls, weight; of the first turn, tools.
Message = dict[str, Any]
NAME, VALUE = "probed_function", "probed value"
_ID = "call00001"  # nine letters and digits, as Mistral's templates want it
_TOOL = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "Probes.",
        "parameters": {"type": "object", "properties": {"key": {"type": "string", "description": "A key."}}},
    },
}
_CALL = {"id": _ID, "type": "function", "function": {"name": NAME, "arguments": {"key": VALUE}}}
_PROBE: tuple[Message, ...] = (
    {"role": "user", "content": "question"},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "name": NAME, "tool_call_id": _ID, "content": "result"},
    {"role": "assistant", "content": "reply"},
)
UNKNOWN_CALLS = "the chat template does not write tool calls; choose a model, or a model.chat_template, that knows them"
UNKNOWN_TOOLS = "the chat template does not tell the model its `tools`; choose one that does, or take them out"

Render = Callable[[Sequence[Message], Sequence[Message] | None], str]


def as_text(message: Message) -> Message:
    """The message with the arguments of its calls as JSON text."""
    calls = [
        {**call, "function": {**call["function"], "arguments": _json(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else dict(message)


def _json(arguments: object) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def arguments_as_text(render: Render, fault: type[Exception]) -> bool | None:
    """Whether a template wants arguments as JSON text; None where it writes no calls at all.

    Args:
        render: messages and tools to text; it raises `fault` where the template fails.
    """
    for text in (False, True):
        probe = [as_text(message) for message in _PROBE] if text else _PROBE
        for tools in (None, [_TOOL]):
            try:
                shown = render(probe, tools)
            except fault:
                continue
            # Python's own 'quotes' are no JSON; a text that was quoted once more has \" in it.
            if VALUE in shown and f"'{VALUE}'" not in shown and f'\\"{VALUE}' not in shown:
                return text
    return None


def tells_tools(render: Render, fault: type[Exception]) -> bool:
    """Whether the tools stand in the render of a conversation that has some."""
    try:
        return NAME in render(_PROBE[:1], [_TOOL])
    except fault:
        return False
