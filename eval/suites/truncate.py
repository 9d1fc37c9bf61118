"""Long prompts lose their middle, as LongBench defines it: the beginning and the end stay."""

from __future__ import annotations

from collections.abc import Sequence

from eval.encode import Text
from eval.engines.requests import Sample


def cut_middle(text: Text, prompt: str, limit: int) -> tuple[str, bool]:
    """A text of at most about `limit` tokens, and whether it was cut: half the ids from each end, decoded and joined.

    https://github.com/THUDM/LongBench/blob/main/LongBench/pred.py, `get_pred`. Decoding and joining may change the
    number of tokens by a few. Nothing is left where there is no room for two.
    """
    ids = text.ids(prompt, special=True)
    if len(ids) <= limit:
        return prompt, False
    half = max(0, limit) // 2
    return text.text(ids[:half]) + text.text(ids[len(ids) - half :]), True


def cut_note(samples: Sequence[Sample], limit: int, max_length: int) -> tuple[str, ...]:
    """What the screen says of samples that were cut to `limit` tokens; nothing where none was."""
    cut = sum(bool(sample.shown.get("truncated")) for sample in samples)
    how = (
        "--max-length, or data.max_length of the recipe, sets it" if limit >= max_length else "the model takes no more"
    )
    return (f"{cut} of {len(samples)} are cut to {limit} tokens ({how})",) if cut else ()
