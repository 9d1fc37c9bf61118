"""The prompt and the reply of a row, of the shapes in which people have them."""

from __future__ import annotations

import re
from typing import Any

from recipes.encode import BadRow, Message
from runner.data.calls import number_calls
from runner.data.fields import Fields, alternating, dialogue, messages_in, text, tools_key, turns
from runner.data.honoured import blank, empty
from runner.data.tagged import with_calls

TRANSCRIPT = re.compile(r"^\s*(Human|User|H): .*^\s*(Assistant|A): ", re.DOTALL | re.MULTILINE)
SPEAKER = re.compile(r"(?:^|\n\n|\r\n\r\n)(Human|Assistant): ?")
PROMPTS = ("prompt", "messages", "conversations", "instruction")
BOTH = "give both as messages, or map both to instruction and output, which format: alpaca takes as they are"


def given(row: Fields, *keys: str) -> str:
    """The first of keys that stand for one another which says something: tables give every row every key."""
    there = [key for key in keys if key in row]
    return next((key for key in there if not empty(row[key])), there[0] if there else keys[0])


def question(row: Fields) -> str:
    """The user's text of an instruction and its input, one of which may be empty."""
    parts = [text(row, "instruction", optional="instruction" in row), text(row, "input", optional=True)]
    found = "\n".join(part for part in parts if part)
    if not found.strip():
        raise BadRow("instruction and input are empty")
    return found


def prompt_of(row: Fields) -> list[Message]:
    key = given(row, *PROMPTS)
    if key == "instruction":
        return [user_turn(question(row))]
    value = row.get(key)
    found = _asked(value) if key == "prompt" else value
    return dialogue(row, found, key, reply=False) if found or key != "prompt" else [user_turn(text(row, key))]


def _asked(value: Any) -> list[Any]:
    """The messages that a prompt is, or HH-RLHF's transcript of them, which ends on `Assistant:`; none of a text."""
    said = transcript(value)
    return messages_in(value) or (said[:-1] if said and not said[-1]["content"].strip() else [])


def continued(row: Fields, prompt: list[Message], replies: list[Message], key: str) -> list[Message]:
    """The conversation of a prompt and the turns after it, whose list may begin with the prompt once more."""
    (system, asked), (other, said) = _apart(prompt), _apart(replies)
    begun = [_spoken(turn) for turn in said[: len(asked)]] == [_spoken(turn) for turn in asked]
    one_system = not (system and other) or _spoken(system[0]) == _spoken(other[0])
    whole = [*(system or other), *asked, *said[len(asked) :]] if begun and one_system else [*prompt, *replies]
    return alternating(row, whole, key)


def _apart(turns: list[Message]) -> tuple[list[Message], list[Message]]:
    """The system turn that a conversation begins with, if any, and the others."""
    begin = int(bool(turns) and turns[0]["role"] == "system")
    return turns[:begin], turns[begin:]


def _spoken(turn: Message) -> tuple[str, str]:
    return turn["role"], turn["content"].strip()


def prompt_before(row: Fields, begun: list[Message], reply: Message) -> list[Message]:
    """The prompt of a reply, where the reply's own list may have `begun` with it."""
    if not begun:
        if not set(PROMPTS) & set(row) and TRANSCRIPT.search(reply["content"]):
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
    """The reply under `key`, and the prompt before it where the value is a message list, or a transcript of one."""
    found = reply_messages(row, key)
    if not found:
        said = transcript(row.get(key))
        asked = _text_prompt(row)
        found = said if asked is None or asked in [turn["content"].strip() for turn in said] else []
    if found:
        *before, reply = dialogue(row, found, key)
        return reply, before
    return text_reply(row, key), []


def reply_messages(row: Fields, key: str) -> list[Any]:
    """The messages that a reply is, if it is any.

    Raises:
        BadRow: it is the JSON text of a conversation: that may be what is to be learned, and the prompt does not tell.
    """
    value = row.get(key)
    found, asked = messages_in(value), _text_prompt(row)
    if not found or not isinstance(value, str) or asked is None:
        return found
    said = turns(row, found, key)
    if [turn["role"] for turn in said] == ["assistant"] or asked in [turn["content"].strip() for turn in said]:
        return found
    raise BadRow(f"{key} is the JSON text of a conversation, and the prompt is not its beginning: {BOTH}")


def _text_prompt(row: Fields) -> str | None:
    """The prompt of a row whose prompt is a text."""
    key = given(row, *PROMPTS)
    if key == "instruction":
        said = (row[name] for name in ("instruction", "input") if name in row)
        return "\n".join(str(part) for part in said if not blank(part)).strip() or None
    return None if key not in row or key != "prompt" or _asked(row[key]) else str(row[key]).strip()


def transcript(value: Any) -> list[Message]:
    """The messages of a conversation as one text, as HH-RLHF has it: a blank line, who speaks, a colon."""
    if not isinstance(value, str):
        return []
    before, *rest = SPEAKER.split(value.lstrip("\r\n"))
    if before.strip() or not rest or rest[0] != "Human":
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said} for who, said in zip(rest[::2], rest[1::2], strict=True)]


def text_reply(row: Fields, key: str) -> Message:
    """The reply that is the text under `key`; where the row has tools, with the calls that stand in it."""
    reply = assistant_turn(text(row, key))
    if tools_key(row):
        reply = with_calls(reply, key)
        number_calls([reply])
    return reply


def user_turn(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant_turn(text: str) -> Message:
    return {"role": "assistant", "content": text}
