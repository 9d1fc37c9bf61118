"""Batches by length under a token budget: little padding, and the largest first, so that memory runs out at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches whose padded size stays within the budget (a longer sequence goes alone), longest first."""
    order = sorted(range(len(lengths)), key=lambda n: (-lengths[n], n))
    batch: list[int] = []
    for n in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """How many leading tokens all sequences share."""
    if not sequences:
        return 0
    low, high = min(sequences), max(sequences)  # what these two share, all between them share
    return next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
