"""The training rows of an epoch where the sources have weights: every row once, and what is short again."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Sequence

from recipes.types import Source
from runner.data.passes import Stop

MOST = 100  # times as many rows as there are: more is a mistake of the weights


def mixed(indices: Sequence[int], source_of: Sequence[int], sources: Sequence[Source], seed: int) -> Sequence[int]:
    """The rows of an epoch, so many of each source as its weight says.

    The source that is largest beside its weight stands there once. Each other one is repeated whole as often as that
    fits, and the rest of its share are rows of it at random, by seed; so no row stands there twice more often than
    another of its source.

    Args:
        indices: the rows, in order.
        source_of: the number of each row's source, by index.
        sources: with weights.

    Returns:
        all of `indices` in their order, and the repeats behind them.

    Raises:
        Stop: a source without rows, or one that would be repeated beyond reason.
    """
    weights = [source.weight or 0.0 for source in sources]
    rows = [array("I") for _ in sources]
    for index in indices:
        rows[source_of[index]].append(index)
    for number, found in enumerate(rows):
        if not found:
            raise Stop(f"data.train[{number}] has a weight, and no row of {sources[number].name} is left to repeat")
    # So many rows for each unit of weight that no source has more than its share.
    unit = max(len(found) / weight for found, weight in zip(rows, weights, strict=True))
    if sum(weights) * unit > MOST * len(indices):
        small = max(range(len(rows)), key=lambda n: weights[n] * unit / len(rows[n]))
        times = weights[small] * unit / len(rows[small])
        raise Stop(
            f"data.train[{small}].weight: {sources[small].name} has {len(rows[small]):,} rows, which would be repeated "
            f"{times:,.0f} times each; lower its weight, or give the others max_samples"
        )
    order = array("I", indices)
    for number, found in enumerate(rows):
        whole, rest = divmod(round(unit * weights[number]), len(found))
        order += found * (whole - 1)
        order.extend(sorted(random.Random(f"{seed} {number}").sample(found, rest)))
    return order


def of_sources(order: Sequence[int], source_of: Sequence[int], sources: Sequence[Source]) -> dict[str, int]:
    """How many rows of an epoch come from each source, by its name."""
    counts = Counter(source_of[index] for index in order)
    found: Counter[str] = Counter()
    for number, source in enumerate(sources):
        found[source.name] += counts[number]
    return dict(found)


def weighted(sources: Sequence[Source]) -> bool:
    return any(source.weight is not None for source in sources)
