"""Keys of a row that say what is to be learned, and that are not honoured: refused by name, never passed over.

What is empty says nothing, and passes: tables give every row every key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from recipes.encode import BadRow

TOOLS = "tool calls stand in the messages of a conversation, and GRPO has none"
MEDIA = "only text is trained on"
WEIGHTS = "only a reply can have a weight, and it is 0 or 1; set data.train_on, or leave the row out"
THINKING = "thinking stands in the message of its reply (reasoning_content), or in the reply's text"
REASONS = {
    **dict.fromkeys(("tool_calls", "tool_call", "function_call", "functions", "tools"), TOOLS),
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), MEDIA),
    **dict.fromkeys(("weight", "weights", "loss", "loss_mask", "loss_weight", "loss_scale"), WEIGHTS),
    **dict.fromkeys(("train", "trainable", "training", "train_detail", "mask", "masked"), WEIGHTS),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), THINKING),
}
OF_REPLIES = (WEIGHTS, THINKING)  # what GRPO, which learns no reply of the data, need not heed


class Unwanted(BadRow):
    """A row that is left out because the recipe says so, or nothing can be learned of it; the text is counted."""


def refuse(keys: dict[Any, Any], used: Iterable[Any], place: str = "", *, replies: bool = True) -> set[str]:
    """The names of what is neither used nor empty.

    Args:
        keys: a row, or a message of it.
        used: the keys that were read.
        place: the message's place in the row.

    Raises:
        BadRow: one of them would change what is learned.
    """
    unused = set()
    for key in keys.keys() - set(used):
        value, name = keys[key], str(key)
        reason = REASONS.get(name.lower())
        if empty(value):
            continue
        if reason in OF_REPLIES and not replies:
            reason = None
        if reason and not _asks_for_nothing(name.lower(), reason, value):
            raise BadRow(f"{place}{': ' if place else ''}{name[:80]!r} is not honoured: {reason}")
        if not reason:
            unused.add(name)
    return unused


def _asks_for_nothing(name: str, reason: str, value: Any) -> bool:
    if reason != WEIGHTS:
        return value is False
    values = value if isinstance(value, (list, tuple)) else [value]
    return name not in ("mask", "masked") and all(truth(item) is True for item in values)  # of a mask, 1 may be either


def truth(value: Any) -> bool | None:
    """True, 1, 1.0 and their texts are true; 0 and its kin false; None for anything else."""
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(str(value).lower())


def blank(value: Any) -> bool:
    """Whether a text says nothing: null, NaN (as pandas writes what is absent), white space."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def empty(value: Any) -> bool:
    """Whether a cell says nothing where a list or an object may stand: what is blank, or empty, also in writing."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null", "None")
    if isinstance(value, dict):
        return all(map(empty, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(empty, value))
    return blank(value)
