"""How verl 0.9.1 keeps a model while it trains it: for the estimate of memory."""

from __future__ import annotations

from adapters.contract import Keeping, Topology
from adapters.native import LIGER, precision
from adapters.verl.config import model_dtype
from adapters.verl.settings import padding_free, takes_liger
from adapters.verl.spread import on_megatron, strategy
from recipes import Recipe


def keeping(recipe: Recipe, topology: Topology) -> Keeping | str:
    if on_megatron(recipe):
        return "no estimate: strategy megatron divides layers in ways that are not counted here"
    compute, spread, grpo = precision(recipe, topology), recipe.distributed, recipe.method == "grpo"
    offload = {"between"} if spread.offload_optimizer else set()
    if spread.offload_parameters and strategy(recipe) == "fsdp2" and not grpo:
        offload |= {"weights"}  # offload_policy; param_offload gives memory back between the steps alone
    asked = grpo and recipe.grpo.kl_coef and recipe.tuning.type == "full" and not spread.offload_parameters
    return Keeping(
        trained="fp32",
        frozen="fp32" if model_dtype(recipe, topology) == "fp32" else compute,
        autocast=False,
        weights_over=topology.world_size,
        states_over=topology.world_size,
        sharded=True,
        offload=frozenset(offload),
        reference="fp32" if asked else None,
        loss="entropy" if grpo else "tokens" if padding_free(recipe) else "rows",
        liger=LIGER if takes_liger(recipe, topology) else (),
        unpadded=padding_free(recipe) and recipe.model.attention != "eager" and not grpo,
    )
