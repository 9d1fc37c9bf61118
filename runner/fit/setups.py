"""What the memory of a recipe's step depends on: of the recipe, and of how its backend keeps a model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from adapters.contract import Keeping, Topology
from adapters.native import gradient_accumulation, precision
from recipes import Recipe
from recipes.methods import METHODS
from runner.fit.memory import trainable
from runner.fit.shapes import Shape
from runner.fit.step import FP32, Lora, Setup

BYTES = {"bf16": 2, "fp16": 2, "fp32": FP32}
# Beginnings of native keys that change no memory; any other that a backend has not looked at is named in a note.
NO_MATTER = ("warmup", "logging", "dataloader", "save", "seed", "report", "run_name", "lr_", "train_sampling")


def setup(recipe: Recipe, topology: Topology, shape: Shape, kept: Keeping) -> Setup:
    """The setup of one process of a checked recipe on these machines."""
    tuning, training = recipe.tuning, recipe.training
    targets = () if tuning.target_modules == "all-linear" else tuning.target_modules
    lora = Lora(
        rank=tuning.rank,
        targets=frozenset(targets),
        dropout=tuning.dropout > 0,
        dora=tuning.dora,
        saved=frozenset(("embed_tokens", "lm_head") if recipe.model.add_tokens else tuning.modules_to_save),
    )
    compute = BYTES[precision(recipe, topology)]
    stored = kept.as_stored and shape.stored == "float32"
    liger = shape.family in kept.liger
    accumulates = METHODS[recipe.method].rewards or gradient_accumulation(recipe, topology) > 1
    found = Setup(
        shape=shape,
        lora=lora if tuning.type == "lora" else None,
        rows=_rows(recipe),
        length=length(recipe),
        checkpointing=training.gradient_checkpointing,
        attention="flash" if kept.unpadded else _attention(recipe),
        padded=not kept.unpadded,  # one row alone is, too: LLaMA-Factory fills it up to a multiple of 8
        compute=compute,
        base={"4bit": 4, "8bit": 8, None: 8 * (FP32 if stored else BYTES[kept.frozen])}[tuning.quantization],
        trained=BYTES[kept.trained],
        cast=kept.autocast and compute != FP32,
        loss="fused" if liger and kept.loss == "plain" else kept.loss,
        liger=liger,
        accumulates=accumulates,
        optimizer=training.optimizer,
        master=kept.master,
        fused=kept.fused,
        weights_over=kept.weights_over,
        states_over=kept.states_over,
        sharded=kept.sharded,
        offload=kept.offload,
        reference=BYTES[kept.reference] if kept.reference else 0,
    )
    summed = trainable(found) if kept.summed is None else min(kept.summed, 2 * trainable(found))
    live = min(kept.live, shape.parameters) * compute
    return replace(found, buffers=summed * found.trained + live)


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


def uncounted(recipe: Recipe, kept: Keeping) -> list[str]:
    """The native keys of a recipe that an estimate does not know."""
    keys = recipe.backend_options
    return [key for key in keys if key not in kept.counted and not key.startswith(NO_MATTER)]
