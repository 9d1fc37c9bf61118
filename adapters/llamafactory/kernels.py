"""For which models LLaMA-Factory has Liger's kernels."""

from __future__ import annotations

from adapters.contract import Topology
from recipes import Recipe


def takes_liger(recipe: Recipe, topology: Topology) -> bool:
    """Whether Liger's kernels are asked for, or the fastest there are; torch.compile cannot trace those of 0.8."""
    training = recipe.training
    return bool(topology.gpus) and training.kernels != "none" and not training.compile
