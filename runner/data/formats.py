"""Turns a raw row of each data format into the one canonical row of its method.

Canonical rows (TRL's conversational form; a message is {"role", "content"}):

    sft        {"messages": [...]}
    dpo, orpo  {"prompt": [...], "chosen": [message], "rejected": [message]}
    kto        {"prompt": [...], "completion": [message], "label": true | false}
    grpo       {"prompt": [...], "answer": text}

A new format is one function and one line in FORMATS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from recipes.encode import BadRow, Message

Raw = dict[str, Any]

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
}


def alpaca(row: Raw) -> Raw:
    """{"instruction": "Define APR.", "input": "", "output": "The yearly …", "system": "…", "history": [["q", "a"]]}"""
    question = _text(row, "instruction")
    extra = _text(row, "input", optional=True)
    messages: list[Message] = []
    for turn in _loaded(row.get("history")) or []:
        if not (isinstance(turn, (list, tuple)) and len(turn) == 2 and all(isinstance(t, str) for t in turn)):
            raise BadRow("history must be a list of [question, answer]")
        messages += [_user(turn[0]), _assistant(turn[1])]
    prompt = f"{question}\n{extra}" if extra else question
    return {"messages": [*messages, _user(prompt), _assistant(_text(row, "output"))]}


def prompt_response(row: Raw) -> Raw:
    """{"prompt": "Define APR.", "response": "The yearly …"}"""
    return {"messages": [*_prompt(row), _assistant(_text(row, "response"))]}


def messages(row: Raw) -> Raw:
    """{"messages": [{"role": "user", "content": "Define APR."}, {"role": "assistant", "content": "…"}]}"""
    return {"messages": _dialogue(row.get("messages"), "messages")}


def conversations(row: Raw) -> Raw:
    """{"conversations": [{"from": "human", "value": "Define APR."}, {"from": "gpt", "value": "…"}], "system": "…"}"""
    return {"messages": _dialogue(row.get("conversations"), "conversations")}


def preference(row: Raw) -> Raw:
    """{"prompt": "…", "chosen": "…", "rejected": "…"}; they may be message lists that hold the prompt."""
    chosen, prompt = _reply(row, "chosen")
    rejected, other = _reply(row, "rejected")
    if prompt and other and prompt != other:
        raise BadRow("chosen and rejected begin with different prompts")
    if chosen == rejected:
        raise BadRow("chosen and rejected are equal: nothing to prefer")
    return {"prompt": prompt or other or _prompt(row), "chosen": [chosen], "rejected": [rejected]}


def feedback(row: Raw) -> Raw:
    """{"prompt": "…", "completion": "…", "label": true}; or messages that end on the reply, and label"""
    reply, prompt = _reply(row, "completion" if "completion" in row else "messages")
    label = row.get("label")
    label = {"true": True, "1": True, "false": False, "0": False}.get(str(label).lower())
    if label is None:
        raise BadRow(f"label is {row.get('label')!r}; allowed: true or false")
    return {"prompt": prompt or _prompt(row), "completion": [reply], "label": label}


def prompts(row: Raw) -> Raw:
    """{"prompt": "What is 2 + 2?", "answer": "4"}"""
    return {"prompt": _prompt(row), "answer": _text(row, "answer")}


FORMATS: dict[str, Callable[[Raw], Raw]] = {
    "alpaca": alpaca,
    "prompt_response": prompt_response,
    "messages": messages,
    "conversations": conversations,
    "preference": preference,
    "feedback": feedback,
    "prompts": prompts,
}

# The keys by which `auto` tells a format, for the formats of each method.
_KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "sft": {
        "messages": ("messages",),
        "conversations": ("conversations",),
        "alpaca": ("instruction", "output"),
        "prompt_response": ("prompt", "response"),
    },
    "dpo": {"preference": ("chosen", "rejected")},
    "orpo": {"preference": ("chosen", "rejected")},
    "kto": {"feedback": ("label",)},
    "grpo": {"prompts": ("prompt", "answer")},
}


def detect(row: Any, method: str) -> str:
    """The format of a row, told from its keys.

    Raises:
        BadRow: no format of the method has these keys.
    """
    choices = _KEYS[method]
    if isinstance(row, dict):
        for name, keys in choices.items():
            if all(key in row for key in keys):
                return name
    wanted = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in choices.items())
    found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
    raise BadRow(f"no {method} format has these keys: {found[:200]}; known: {wanted}; or map yours with `columns`")


def convert(row: Any, format_name: str, source: Raw) -> Raw:
    """The canonical row of a raw one, with the source's column names and system prompt applied.

    Raises:
        BadRow: the row is malformed.
    """
    if not isinstance(row, dict):
        raise BadRow(f"a row must be a mapping, not {type(row).__name__}")
    for theirs in source["columns"].values():
        if theirs not in row:
            raise BadRow(f"no column {theirs!r}; it has {', '.join(map(str, row))[:200]}")
    row = {**row, **{ours: row[theirs] for ours, theirs in source["columns"].items()}}
    result = FORMATS[format_name](row)
    turns = result.get("messages") or result["prompt"]
    system = row.get("system") if isinstance(row.get("system"), str) and row["system"].strip() else source["system"]
    if system and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": system})
    return result


def _text(row: Raw, key: str, *, optional: bool = False) -> str:
    value = row.get(key)
    if value is None and optional:
        return ""
    if key not in row:
        raise BadRow(f"no {key!r}; it has {', '.join(map(str, row))[:200]}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadRow(f"{key} is {type(value).__name__}, not text")
    if not value.strip() and not optional:
        raise BadRow(f"{key} is empty")
    return value


def _loaded(value: Any) -> Any:
    """CSV cells carry lists as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _turns(value: Any, key: str) -> list[Message]:
    """A list of messages, of role and content or of from and value."""
    value = _loaded(value)
    if not isinstance(value, (list, tuple)) or not value:
        raise BadRow(f"{key} must be a list of messages that is not empty")
    return [_message(turn, f"{key}[{n}]") for n, turn in enumerate(value)]


def _message(turn: Any, place: str) -> Message:
    if not isinstance(turn, dict):
        raise BadRow(f"{place} must be a message of role and content, not {type(turn).__name__}")
    role_key, text_key = ("from", "value") if "from" in turn else ("role", "content")
    if role_key not in turn or text_key not in turn:
        raise BadRow(f"{place} must have {role_key!r} and {text_key!r}")
    role, text = ROLES.get(str(turn[role_key]).lower()), turn[text_key]
    if role is None:
        raise BadRow(f"{place}: {role_key} is {str(turn[role_key])[:60]!r}; allowed: {', '.join(ROLES)}")
    if not isinstance(text, str):
        raise BadRow(f"{place}: {text_key} is {type(text).__name__}, not text")
    if role == "assistant" and not text.strip():
        raise BadRow(f"{place}: the reply is empty")
    return {"role": role, "content": text}


def _dialogue(value: Any, key: str) -> list[Message]:
    turns = _turns(value, key)
    if turns[-1]["role"] != "assistant":
        raise BadRow(f"{key} ends on a {turns[-1]['role']} turn: there is no reply to learn")
    return turns


def _prompt(row: Raw) -> list[Message]:
    key = next((k for k in ("prompt", "messages", "conversations") if k in row), "prompt")
    value = _loaded(row.get(key))
    if isinstance(value, (list, tuple)):
        turns = _turns(value, key)
        if turns[-1]["role"] == "assistant":
            raise BadRow(f"{key} ends on an assistant turn")
        return turns
    return [_user(_text(row, key))]


def _reply(row: Raw, key: str) -> tuple[Message, list[Message]]:
    """The reply under `key`, and the prompt before it where the value is a message list."""
    value = _loaded(row.get(key))
    if isinstance(value, (dict, list, tuple)):
        turns = _dialogue([value] if isinstance(value, dict) else value, key)
        return turns[-1], turns[:-1]
    return _assistant(_text(row, key)), []


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
