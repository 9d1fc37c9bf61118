"""Long prompts lose their middle, as LongBench defines it: the beginning and the end stay."""

from __future__ import annotations

from eval.encode import Text


def cut_middle(text: Text, prompt: str, limit: int) -> tuple[str, bool]:
    """A text of at most about `limit` tokens, and whether it was cut: half the ids from each end, decoded and joined.

    https://github.com/THUDM/LongBench/blob/main/LongBench/pred.py, `get_pred`. Decoding and joining may change the
    number of tokens by a few.
    """
    ids = text.ids(prompt, special=True)
    if len(ids) <= limit:
        return prompt, False
    half = limit // 2
    return text.text(ids[:half]) + text.text(ids[-half:]), True
