"""The prompt and the reply of a row, of the shapes in which people have them."""

from __future__ import annotations

import re
from typing import Any

from recipes.encode import BadRow, Message
from runner.data.fields import Fields, dialogue, messages_in, text
from runner.data.honoured import empty

TRANSCRIPT = re.compile(r"^\s*(Human|User|H): .*^\s*(Assistant|A): ", re.DOTALL | re.MULTILINE)
SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
PROMPTS = {"prompt", "messages", "conversations"}


def given(row: Fields, *keys: str) -> str:
    """The first of keys that stand for one another which says something: tables give every row every key."""
    there = [key for key in keys if key in row]
    return next((key for key in there if not empty(row[key])), there[0] if there else keys[0])


def prompt_of(row: Fields) -> list[Message]:
    key = given(row, "prompt", "messages", "conversations")
    value = row.get(key)
    if key == "prompt" and not messages_in(value):
        return [user_turn(text(row, key))]
    return dialogue(row, value, key, reply=False)


def prompt_before(row: Fields, begun: list[Message], reply: Message) -> list[Message]:
    """The prompt of a reply, where the reply's own list may have `begun` with it."""
    if not begun:
        if not PROMPTS & set(row) and TRANSCRIPT.search(reply["content"]):
            raise BadRow(
                "a whole transcript and no prompt; write it as HH-RLHF does (a blank line, Human: or Assistant:)"
            )
        return prompt_of(row)
    if "prompt" in row and not empty(row.get("prompt")):
        given = prompt_of(row)
        said = [turn["content"].strip() for turn in begun]
        if any(turn["content"].strip() not in said for turn in given):
            raise BadRow("prompt is not among the turns that the reply's list begins with; give it in one place")
    return begun


def reply_of(row: Fields, key: str) -> tuple[Message, list[Message]]:
    """The reply under `key`, and the prompt before it where the value is a message list."""
    found = messages_in(row.get(key)) or ([] if PROMPTS & set(row) else transcript(row.get(key)))
    if found:
        *before, reply = dialogue(row, found, key)
        return reply, before
    return assistant_turn(text(row, key)), []


def transcript(value: Any) -> list[Message]:
    """The messages of a conversation as one text, as HH-RLHF has it: a blank line, who speaks, a colon."""
    if not isinstance(value, str):
        return []
    before, *rest = SPEAKER.split(value.lstrip("\n"))
    if before.strip() or not rest or rest[0] != "Human":
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said} for who, said in zip(rest[::2], rest[1::2], strict=True)]


def user_turn(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant_turn(text: str) -> Message:
    return {"role": "assistant", "content": text}
