"""Key-value caches shared by requests that begin alike: a prefix is computed once, and forked for each batch on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from transformers.cache_utils import DynamicLayer

SHORTEST = 16  # tokens: below it a forward pass of its own costs more than it saves


def prefix_groups(prefixes: Mapping[int, Sequence[int]]) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    """Requests by equal prefix, the longest first, and those for whom sharing does not pay."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for n, prefix in prefixes.items():
        groups.setdefault(tuple(prefix), []).append(n)
    shared = [(list(p), members) for p, members in groups.items() if len(p) >= SHORTEST and len(members) > 1]
    alone = [n for p, members in groups.items() if len(p) < SHORTEST or len(members) == 1 for n in members]
    return sorted(shared, key=lambda group: -len(group[0])), alone


def shareable(cache: Any) -> bool:
    """Whether every layer grows by concatenation, so that forks never write into one another (state spaces do)."""
    return all(isinstance(layer, DynamicLayer) for layer in getattr(cache, "layers", [None]))


def takes_trees(model: Any) -> bool:
    """Whether attention honours a mask of any form: not in flash kernels, and a sliding window would be lost in it."""
    config = model.config.get_text_config()
    sliding = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    return config._attn_implementation in ("sdpa", "eager") and not sliding


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
