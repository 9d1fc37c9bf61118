"""What the memory of a recipe's step depends on, as its backend trains: LLaMA-Factory 0.9.5 and verl 0.9.1."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from adapters.contract import Topology
from adapters.native import gradient_accumulation, precision
from recipes import Recipe
from recipes.methods import METHODS
from runner.fit.memory import trainable
from runner.fit.shapes import Shape
from runner.fit.step import FP32, Lora, Setup

# DeepSpeed's own defaults, in elements: what ZeRO reduces at once (twice, as it overlaps), and stage 3 keeps whole.
BUCKET, LIVE = 500_000_000, 1_000_000_000
COMPUTE = {"bf16": 2, "fp16": 2, "fp32": FP32}
# Native keys that change the memory and are counted; any other is named in a note.
COUNTED = ("enable_liger_kernel", "pure_bf16", "lora_target")
NO_MATTER = (
    "warmup",
    "logging",
    "dataloader",
    "save",
    "seed",
    "report",
    "run_name",
    "neftune",
    "lr_",
    "train_sampling",
)


def setup(recipe: Recipe, topology: Topology, shape: Shape, optimizer: str = "adamw") -> Setup:
    """The setup of one process of a checked recipe (not under strategy megatron) on these machines."""
    tuning, training = recipe.tuning, recipe.training
    targets = () if tuning.target_modules == "all-linear" else tuning.target_modules
    lora = Lora(rank=tuning.rank, targets=frozenset(targets), dropout=tuning.dropout > 0, dora=tuning.dora)
    compute, rows = COMPUTE[precision(recipe, topology)], _rows(recipe)
    base = {"4bit": 4, "8bit": 8, None: 8 * compute}[tuning.quantization]
    found = Setup(
        shape=shape,
        lora=lora if tuning.type == "lora" else None,
        rows=rows,
        length=length(recipe),
        checkpointing=training.gradient_checkpointing,
        attention=_attention(recipe),
        padded=recipe.data.packing or (rows > 1 and not recipe.distributed.remove_padding),
        compute=compute,
        base=base,
        cast=compute != FP32,
        loss=_loss(recipe),
        accumulates=_accumulates(recipe, topology),
        optimizer=optimizer,
    )
    return (_verl if recipe.backend == "verl" else _llamafactory)(recipe, topology, found)


def length(recipe: Recipe) -> int:
    """The tokens of the longest row that one process has of it."""
    rollouts, spread = recipe.grpo.rollouts, recipe.distributed
    whole = recipe.data.max_length
    if METHODS[recipe.method].rewards:
        whole = rollouts.max_prompt_length + rollouts.max_reply_length
    if spread.max_tokens_per_device:
        return max(spread.max_tokens_per_device, whole // spread.sequence_parallel)
    return math.ceil(whole / spread.sequence_parallel)


def _rows(recipe: Recipe) -> int:
    """Conversations at once: chosen and rejected replies go through the model together."""
    if recipe.distributed.max_tokens_per_device:
        return 1
    return recipe.training.micro_batch_size * (2 if METHODS[recipe.method].rows.pair else 1)


def _attention(recipe: Recipe) -> Literal["sdpa", "flash", "eager"]:
    asked = recipe.model.attention
    return "flash" if asked == "flash_attention_2" else "eager" if asked == "eager" else "sdpa"


def _loss(recipe: Recipe) -> Literal["plain", "fused", "pairs", "compared", "rows", "entropy"]:
    if recipe.method in ("dpo", "kto"):
        return "compared"
    if recipe.method == "orpo":
        return "pairs"
    if recipe.backend == "verl":
        return "entropy" if METHODS[recipe.method].rewards else "rows"
    return "fused" if recipe.backend_options.get("enable_liger_kernel") else "plain"


def _accumulates(recipe: Recipe, topology: Topology) -> bool:
    return METHODS[recipe.method].rewards or gradient_accumulation(recipe, topology) > 1


def _llamafactory(recipe: Recipe, topology: Topology, found: Setup) -> Setup:
    """Trainable parameters are in fp32 (adapter.py casts them, `pure_bf16` apart), and autocast computes in bf16."""
    spread, world = recipe.distributed, topology.world_size
    if recipe.backend_options.get("pure_bf16"):
        found = replace(found, trained=2, cast=False)
    if recipe.method in ("dpo", "kto") and not found.lora:
        found = replace(found, reference=found.compute)
    strategy = "ddp" if spread.strategy == "auto" else spread.strategy
    if strategy == "ddp":
        # DDP sums gradients in buckets of their own (gradient_as_bucket_view is off in accelerate).
        return replace(found, buffers=trainable(found) * found.trained if world > 1 else 0)
    offload = {"states"} if spread.offload_optimizer else set()
    offload |= {"weights"} if spread.offload_parameters else set()
    if strategy.startswith("fsdp"):
        return replace(sharded(found, world), offload=frozenset(offload))
    # DeepSpeed has the whole model in bf16, and fp32 copies of what is trained beside the optimizer's states.
    buckets = 2 * min(BUCKET, trainable(found)) * found.compute
    found = replace(found, trained=found.compute, cast=False, master=True, states_over=world, buffers=buckets)
    if strategy == "deepspeed-zero3":
        live = min(LIVE, found.shape.parameters) * found.compute
        found = replace(found, weights_over=world, buffers=buckets + live)
    return replace(found, offload=frozenset(offload))


def _verl(recipe: Recipe, topology: Topology, found: Setup) -> Setup:
    """FSDP on any number of GPUs; the weights are kept in fp32, but for a LoRA's base under fsdp2 (adapters.verl)."""
    spread, world = recipe.distributed, topology.world_size
    fsdp2 = spread.strategy in ("auto", "fsdp2")
    found = replace(sharded(found, world), base=found.base if fsdp2 else 32)
    if recipe.grpo.kl_coef and METHODS[recipe.method].rewards and not found.lora:
        found = replace(found, reference=0 if spread.offload_parameters else FP32)
    offload = {"between"} if spread.offload_optimizer else set()
    if spread.offload_parameters and fsdp2 and not METHODS[recipe.method].rewards:
        offload |= {"weights"}  # offload_policy; param_offload gives memory back between the steps alone
    return replace(found, offload=frozenset(offload))


def sharded(found: Setup, world: int) -> Setup:
    """FSDP: what is gathered comes in the dtype that is computed in."""
    return replace(found, cast=False, weights_over=world, states_over=world, sharded=True)


def uncounted(recipe: Recipe) -> list[str]:
    """The native keys of a recipe that an estimate does not know."""
    keys = recipe.backend_options
    return [key for key in keys if key not in COUNTED and not key.startswith(NO_MATTER)]
