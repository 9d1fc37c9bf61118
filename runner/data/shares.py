"""`data.max_samples`: so many rows of all sources to train on, each with its share of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from recipes.types import Data, Source
from runner.data.read import read


def limited(data: Data) -> Data:
    """The data whose sources give `max_samples` rows together, which is more than there are sources.

    How many rows each source has must be known for that, so of several, each is read twice.

    Raises:
        BadData: a file that cannot be read or parsed, with its line.
    """
    most = data.max_samples
    if most is None:
        return data
    counts = [_count(source, data.seed, most if len(data.train) == 1 else None) for source in data.train]
    if sum(counts) <= most:
        return data
    pairs = zip(data.train, shares(counts, most), strict=True)
    return replace(data, train=tuple(replace(source, max_samples=share) for source, share in pairs))


def _count(source: Source, seed: int, most: int | None) -> int:
    """The rows of a source; no more than one above `most` are looked at."""
    rows = read(source, seed=seed)
    return sum(1 for _ in (rows if most is None else islice(rows, most + 1)))


def shares(counts: list[int], most: int) -> list[int]:
    """`most` rows, fewer than there are: one of each source, and of the others in proportion, by largest remainder."""
    sources = len(counts)
    exact = [(count - 1) * (most - sources) / (sum(counts) - sources) for count in counts]
    found = [1 + int(one) for one in exact]
    for n in sorted(range(sources), key=lambda n: int(exact[n]) - exact[n])[: most - sum(found)]:
        found[n] += 1
    return found
