"""Whether a model keeps rows that are one behind the other in a sequence apart: found out by trying, before training.

Attention can be told where a row begins. Layers that carry something along the sequence (linear attention, Mamba,
convolutions) mostly cannot be, and a family may make masks or positions of its own: what a row then means to the model
depends on the rows before it, and no error says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

# Logits of a row, relative to their spread: beside those after other tokens, and beside those of the row alone, for
# which kernels may sum in another order (16 bits are within 0.02).
SAME, NEAR = 1e-3, 0.1
MIXES = "{family} models do not keep rows in one sequence apart: what each means would depend on those before it"

Call = Callable[[Sequence[Sequence[int]]], Any]


def keeps_apart(call: Call, model: Any) -> bool:
    """Whether what comes before a row changes no more of it than what comes after it.

    Args:
        call: logits of each token, (tokens, …), of rows of ids, put one behind the other as the training puts them.
        model: what is called, in whatever it is wrapped.
    """
    import torch

    chance, size = random.Random(0), model.get_input_embeddings().num_embeddings
    first, row, last, other = ([chance.randrange(size) for _ in range(count)] for count in (12, 8, 12, 12))
    own = slice(len(first), len(first) + len(row) - 1)  # of the last token a backend may say what follows it
    trains = [part for part in model.modules() if part.training]
    model.eval()
    with torch.no_grad():
        inside, before, after = (
            call(rows)[own] for rows in ((first, row, last), (other, row, last), (first, row, other))
        )
        alone = call([row])[: len(row) - 1]
    for part in trains:
        part.training = True
    if not inside.isfinite().all():
        return True  # the training tells of that
    least = max(SAME, 3 * _gap(after, inside))  # experts are computed with the tokens that others give them
    return _gap(before, inside) <= least and _gap(alone, inside) <= NEAR


def _gap(found: Any, wanted: Any) -> float:
    found, wanted = found.double(), wanted.double()
    return float((found - wanted).norm() / (wanted - wanted.mean()).norm())
