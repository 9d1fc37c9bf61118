"""Whether a model is asked at inference by the ids that its reply was trained behind: `recipe data preview --diff`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from eval.encode import Text
from recipes.encode import BadRow, Encoded, Encoder, Message
from runner.data.inspected import Asked

SHOWN = 8  # tokens from the first difference on


def asked(
    name: str, part: Encoded, messages: Sequence[Message], encoder: Encoder, *, last_only: bool
) -> Iterator[Asked]:
    """For each reply with loss, the ids before it in training beside those that evaluation asks with.

    Args:
        name: of the part.
        part: as it is trained on, which may have been cut.
        messages: its conversation.
    """
    turns = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    turns = [n for n in (turns[-1:] if last_only else turns) if messages[n].get("weight") != 0]
    # Between two replies stands at least the opening of the second, which has no loss.
    for turn, begin in zip(turns, (first for first, _ in part.loss), strict=False):
        before = part.ids[:begin]
        try:
            ids = Text(encoder.tokenizer, encoder, "").chat_ids(list(messages[:turn]))
        except BadRow as error:
            yield Asked(name=name, turn=turn + 1, trained=tuple(before), asked=(), at=0, problem=str(error))
            continue
        at = next((n for n, (one, other) in enumerate(zip(before, ids, strict=False)) if one != other), None)
        at = min(len(before), len(ids)) if at is None else at
        yield Asked(
            name=name,
            turn=turn + 1,
            trained=tuple(before),
            asked=tuple(ids),
            at=at,
            trained_text=_text(encoder.tokenizer, part.ids[at:begin][:SHOWN]),
            asked_text=_text(encoder.tokenizer, ids[at : at + SHOWN]),
        )


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
