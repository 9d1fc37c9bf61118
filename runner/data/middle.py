"""Cuts the middle out of a conversation's longest user turn: `data.overlong: middle`, as LongBench cuts its prompts."""

from __future__ import annotations

from typing import Any

from recipes.encode import BadRow, Encoded, Message

TRIES = 5  # decoding and joining may change the number of tokens by a few


def without_middle(
    messages: list[Message], whole: Encoded, limit: int, encoder: Any, last_only: bool
) -> tuple[list[Message], Encoded] | None:
    """The conversation within `limit` tokens, and its encoding; None where its other turns alone are too long.

    Half of what is kept of the turn is from its beginning and half from its end, in tokens, decoded and joined
    (https://github.com/THUDM/LongBench/blob/main/LongBench/pred.py).
    """
    turn = max((n for n, m in enumerate(messages) if m["role"] == "user"), key=lambda n: len(messages[n]["content"]))
    tokenizer = encoder.tokenizer
    ids = tokenizer(messages[turn]["content"], add_special_tokens=False)["input_ids"]
    kept = len(ids) - (len(whole.ids) - limit)
    for _ in range(TRIES):
        half = kept // 2
        if half < 1:
            return None
        text = "".join(tokenizer.decode(part, skip_special_tokens=True) for part in (ids[:half], ids[-half:]))
        shorter = [*messages]
        shorter[turn] = {**messages[turn], "content": text}
        found = encoder.encode([shorter], last_only=last_only)[0]
        if isinstance(found, BadRow):
            return None
        if len(found.ids) <= limit:
            return shorter, found
        kept -= max(2, len(found.ids) - limit)
    return None
