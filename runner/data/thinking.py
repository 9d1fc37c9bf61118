"""Takes the thinking out of replies: `data.thinking: drop`."""

from __future__ import annotations

import re
from typing import Any

from recipes.encode import Message

DROPPED = "the thinking of its replies is taken out (data.thinking: drop)"
# The block that a reply begins with; one that never ends is left alone: what of it would be the answer?
BLOCK = re.compile(
    r"\A\s*<(think|thinking|thought|reasoning|seed:think)>.*?</\1>\s*|\A\s*\[THINK\].*?\[/THINK\]\s*", re.DOTALL
)


def thinking_before(text: str) -> tuple[str, str]:
    """The block of thinking that a text begins with, if it does, and the rest."""
    found = BLOCK.match(text)
    return (found.group().strip(), text[found.end() :]) if found else ("", text)


def without_thinking(row: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """A canonical row without the thinking of its replies, and whether there was any."""
    made: dict[str, Any] = dict(row)
    for key, value in row.items():
        if isinstance(value, list):
            made[key] = [_turn(turn) if turn.get("role") == "assistant" else turn for turn in value]
    return made, made != row


def _turn(turn: Message) -> Message:
    rest = BLOCK.sub("", turn["content"], count=1)
    kept = {key: value for key, value in turn.items() if key != "reasoning_content"}
    # A reply of nothing but thinking stays: there would be no reply.
    return {**kept, "content": rest} if rest or turn.get("tool_calls") or not turn["content"] else turn
