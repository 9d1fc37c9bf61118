"""What share of its GPUs' peak a training uses: model FLOPs utilization (MFU, arXiv:2204.02311, appendix B)."""

from __future__ import annotations

from collections.abc import Sequence

from adapters import backend
from adapters.contract import Topology
from adapters.native import precision
from recipes import Recipe, UserError
from recipes.methods import METHODS
from runner.data.spec import Accounting
from runner.fit import models, setups
from runner.fit.gpus import named
from runner.fit.work import model_flops_per_token
from runner.machine.cards import Card


def mfu_of_a_token(recipe: Recipe, topology: Topology, rows: Accounting, cards: Sequence[Card]) -> float | None:
    """The MFU of one token a second, on all GPUs together; None where the cards' peak or the model is not known.

    Counted is what the model needs, not what checkpointing computes again. Under methods with rollouts there is none:
    their steps take most of their time for something else.
    """
    known = [named(card.name) for card in cards]
    peaks = {card.flops if card else None for card in known}
    kept = backend(recipe.backend).keeping(recipe, topology)
    unlike = len(cards) != topology.gpus or len(peaks) != 1 or None in peaks
    if unlike or METHODS[recipe.method].rewards or isinstance(kept, str) or precision(recipe, topology) == "fp32":
        return None
    try:
        found = models.find(recipe.model.path, recipe.model.revision)
    except UserError:  # a config.json that is none: the backend says so, if it cannot use it
        return None
    (peak,) = peaks
    if isinstance(found, str) or peak is None or not rows.tokens:
        return None
    conversations = rows.epoch_rows * (2 if METHODS[recipe.method].rows.pair else 1)
    length = min(rows.tokens / conversations, recipe.data.max_length)
    setup = setups.setup(recipe, topology, found.shape, kept)
    return model_flops_per_token(recipe, setup, length) / (peak * topology.world_size)
