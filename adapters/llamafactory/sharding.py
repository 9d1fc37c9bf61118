"""How LLaMA-Factory spreads a training over GPUs: DDP, FSDP and DeepSpeed, by the recipe's strategy."""

from __future__ import annotations

from adapters.contract import Topology
from adapters.native import Config, precision
from recipes import Recipe


def strategy(recipe: Recipe) -> str:
    """The distributed strategy, `auto` resolved."""
    asked = recipe.distributed.strategy
    return "ddp" if asked == "auto" else asked


def fsdp(recipe: Recipe) -> str:
    return "full_shard auto_wrap" + (" offload" if recipe.distributed.offload_parameters else "")


def fsdp_config(recipe: Recipe) -> Config:
    return {
        "version": 2 if strategy(recipe) == "fsdp2" else 1,
        "cpu_ram_efficient_loading": True,
    }


def environment(recipe: Recipe) -> dict[str, str]:
    """A checkpoint has the whole model: accelerate reads this here alone, and keeps FSDP2's in shards else."""
    return {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"} if strategy(recipe).startswith("fsdp") else {}


def deepspeed(recipe: Recipe, topology: Topology) -> Config:
    """The DeepSpeed config; `auto` values are filled in by transformers from the training arguments."""
    stage = 3 if strategy(recipe) == "deepspeed-zero3" else 2
    compute = precision(recipe, topology)
    zero: Config = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    if recipe.distributed.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": bool(topology.gpus)}
    if recipe.distributed.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": bool(topology.gpus)}
    if stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": True}
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": compute == "bf16"},
        "fp16": {"enabled": compute == "fp16"},
        "zero_optimization": zero,
    }
