"""Packs on LLaMA-Factory without its mask of length x length (adapters/packed.py)."""

from __future__ import annotations

from typing import Any

from adapters import packed


class Packs:
    """What LLaMA-Factory's collator gives, and how the model attends to it."""

    def __init__(self) -> None:
        self.used = False
        self.attention = packed.Attention(_numbers)

    def install(self) -> None:
        """Have the collator leave the count of the rows as it is, where this attention is used."""
        from llamafactory.data import collator

        as_mask = collator.prepare_4d_attention_mask
        collator.prepare_4d_attention_mask = lambda rows, dtype: rows if self.used else as_mask(rows, dtype)

    def use(self, model: Any) -> None:
        self.used = self.attention.use(model)


def _numbers(given: dict[str, Any]) -> tuple[Any, int]:
    rows, given["attention_mask"] = given["attention_mask"], None
    return packed.by_number(rows)
