"""Key-value caches shared by requests that begin alike: a prefix is computed once, and forked for each batch on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

NEAR = 0.1  # of the logits' spread, which in 16 bits two kernels may be apart
SHORTEST = 16  # tokens: below it a forward pass of its own costs more than it saves


def prefix_groups(prefixes: Mapping[int, Sequence[int]]) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    """Requests by equal prefix, the longest first, and those for whom sharing does not pay."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for n, prefix in prefixes.items():
        groups.setdefault(tuple(prefix), []).append(n)
    shared = [(list(p), members) for p, members in groups.items() if len(p) >= SHORTEST and len(members) > 1]
    alone = [n for p, members in groups.items() if len(p) < SHORTEST or len(members) == 1 for n in members]
    return sorted(shared, key=lambda group: -len(group[0])), alone


def shareable(cache: Any, padded: bool) -> bool:
    """Whether every layer grows by concatenation, so that forks never write into one another (state spaces do).

    padded: rows may have padding behind the prefix; a sliding window would count it.
    """
    kinds = {DynamicLayer} if padded else {DynamicLayer, DynamicSlidingWindowLayer}
    return all(type(layer) in kinds for layer in getattr(cache, "layers", [None]))


def takes_trees(model: Any) -> bool:
    """Whether attention honours a mask of any form: not in flash kernels, and a sliding window would be lost in it.

    Tried on two branches of a stem: ALiBi takes a mask of two dimensions alone.
    """
    config = model.config.get_text_config()
    sliding = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    if config._attn_implementation not in ("sdpa", "eager") or sliding:
        return False
    ids, places = torch.arange(5, 12, device=model.device)[None], torch.tensor([[0, 1, 2, 3, 4, 3, 4]])
    sees = torch.ones(7, 7, dtype=torch.bool).tril()
    sees[5:, 3:5] = False
    mask = torch.zeros(7, 7, dtype=model.dtype).masked_fill(~sees, torch.finfo(model.dtype).min)[None, None]
    try:
        both = model(input_ids=ids, attention_mask=mask.to(ids.device), position_ids=places.to(ids.device)).logits
    except (TypeError, ValueError, RuntimeError):  # of a mask that no batch gives
        return False
    alone = model(input_ids=ids[:, [0, 1, 2, 5, 6]]).logits
    apart = (
        (both[:, 5:].float() - alone[:, 3:].float()).norm() / alone[:, 3:].float().std() / alone[:, 3:].numel() ** 0.5
    )
    return bool(apart < NEAR)


def fork(cache: Any, rows: int) -> Any:
    """A cache that starts as `rows` copies of a cache of one row, without copying memory; None stays None."""
    if cache is None:
        return None
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in forked.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return forked
