"""How verl spreads a training over devices: the strategy, and who has rows of its own."""

from __future__ import annotations

from adapters.contract import Topology
from recipes import Recipe


def strategy(recipe: Recipe) -> str:
    """The distributed strategy, `auto` resolved."""
    asked = recipe.distributed.strategy
    return "fsdp2" if asked == "auto" else asked


def on_megatron(recipe: Recipe) -> bool:
    return strategy(recipe) == "megatron"


def data_parallel(recipe: Recipe, topology: Topology) -> int:
    """How many devices, or groups of devices, have rows of their own; 0 where the processes do not divide so."""
    spread = recipe.distributed
    share = spread.sequence_parallel
    if on_megatron(recipe):
        share *= spread.tensor_parallel * spread.pipeline_parallel
    return 0 if topology.world_size % share else topology.world_size // share
