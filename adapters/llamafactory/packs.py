"""Packs on LLaMA-Factory without its mask of length x length (adapters/packed.py)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from adapters import apart, packed


def check(args: Any, model: Any, loader: Any) -> None:
    """Exit where a pack's rows are not kept apart by the model, as the loader's collator tells it of them."""

    def call(rows: Sequence[Sequence[int]]) -> Any:
        ids = [token for row in rows for token in row]
        pack = {
            "input_ids": ids,
            "attention_mask": [number for number, row in enumerate(rows, start=1) for _ in row],
            "position_ids": [place for row in rows for place in range(len(row))],
            "labels": ids,
        }
        given = {name: value.to(args.device) for name, value in loader.collate_fn([pack]).items() if name != "labels"}
        return model(**given, use_cache=False).logits[0, : len(ids)]

    if not apart.keeps_apart(call, model):
        family = model.config.model_type
        sys.exit(f"data.packing: {apart.MIXES.format(family=family)}; set data.packing: false")


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
        self.used = self.attention.use(model.get_decoder(), model)


def _numbers(given: dict[str, Any]) -> tuple[Any, int]:
    rows, given["attention_mask"] = given["attention_mask"], None
    return packed.by_number(rows)
