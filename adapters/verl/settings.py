"""The recipe in verl's words: each field's Hydra key and value, as one list that is both ledger and config."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adapters.contract import PreparedData, Topology
from adapters.ledger import Entry, kept_checkpoints, mapped, refused, runner, runner_fields
from adapters.native import precision
from adapters.verl.spread import on_megatron, strategy
from adapters.verl.tuning import adapter, tuning
from recipes import Recipe, schema
from recipes.methods import METHODS, PACKED


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Optimizer steps of a run; None where the rows are not counted yet."""

    per_epoch: int | None
    total: int | None
    epochs: int


def schedule(recipe: Recipe, data: PreparedData) -> Schedule:
    """As transformers' Trainer counts: a last batch that is not full is a step too, and max_steps beats epochs."""
    training = recipe.training
    if data.train_rows is None:
        return Schedule(per_epoch=None, total=training.max_steps, epochs=math.ceil(training.epochs))
    count = math.floor if recipe.method == "grpo" else math.ceil  # verl's GRPO leaves the last, smaller batch out
    per_epoch = max(1, count(data.train_rows / training.global_batch_size))
    total = training.max_steps or math.ceil(training.epochs * per_epoch)
    return Schedule(per_epoch=per_epoch, total=total, epochs=math.ceil(total / per_epoch))


def entries(recipe: Recipe, topology: Topology, data: PreparedData | None = None) -> list[Entry]:
    """The ledger of SFT and pretrain: what becomes of every leaf of the schema."""
    steps = schedule(recipe, data or PreparedData())
    return [
        *runner_fields(),
        runner("method", f"{recipe.method}: verl.trainer.sft_trainer"),
        *model(recipe),
        *tuning(recipe),
        *_length(recipe, steps),
        _micro_batches(recipe, (data or PreparedData()).longest or recipe.data.max_length),
        *optimizer(recipe, steps),
        *computing(recipe, topology),
        *_distributed(recipe),
        packing(recipe),
        *_saving(recipe),
        *refused_everywhere(),
        *(refused(name, "belongs to method: grpo") for name in schema.leaves() if name.startswith("grpo.")),
        runner("backend_options", "native keys, laid over the config"),
    ]


def model(recipe: Recipe) -> list[Entry]:
    given = recipe.model
    attention = "sdpa" if given.attention == "auto" else given.attention
    return [
        mapped("model.path", "model.path", given.path),
        adapter(recipe),
        mapped("model.trust_remote_code", "model.trust_remote_code", given.trust_remote_code),
        refused("model.add_tokens", "verl trains no embeddings of other sizes"),
        mapped("model.attention", "model.override_config.attn_implementation", attention),
    ]


def _length(recipe: Recipe, steps: Schedule) -> list[Entry]:
    training, batch = recipe.training, recipe.training.global_batch_size
    note = f"{steps.per_epoch} steps an epoch" if steps.per_epoch else ""
    return [
        mapped("training.epochs", "trainer.total_epochs", steps.epochs, note),
        mapped("training.max_steps", "trainer.total_training_steps", steps.total),
        mapped("training.global_batch_size", "data.train_batch_size", batch),
        mapped("training.seed", "engine.seed", training.seed, "order of the rows, initial adapter, dropout"),
    ]


def _micro_batches(recipe: Recipe, longest: int) -> Entry:
    """Their rows, and the tokens that so many of the longest have: short rows share them, and need no more memory."""
    field, size, spread = "training.micro_batch_size", recipe.training.micro_batch_size, recipe.distributed
    if spread.max_tokens_per_device or not by_tokens(recipe):
        return mapped(field, "data.micro_batch_size_per_gpu", size)
    tokens = math.ceil(size * longest / spread.sequence_parallel)
    keys = ("data.micro_batch_size_per_gpu", "data.max_token_len_per_gpu")
    return mapped(field, keys, [size, tokens], "rows, and the tokens of as many of the longest; short rows share them")


def by_tokens(recipe: Recipe) -> bool:
    """Whether a micro batch has all the rows that its tokens allow: rows one behind the other, without padding.

    Not where scores of all tokens by all are kept, by eager attention: those of many short rows are more than theirs.
    """
    by_rows = METHODS[recipe.method].rewards or on_megatron(recipe) or recipe.model.attention == "eager"
    return bool(recipe.distributed.max_tokens_per_device) or not by_rows


def optimizer(recipe: Recipe, steps: Schedule) -> list[Entry]:
    training = recipe.training
    return [
        _optimizer(recipe),
        mapped("training.learning_rate", "optim.lr", training.learning_rate),
        _scheduler(recipe),
        *_warmup(recipe, steps),
        mapped("training.weight_decay", "optim.weight_decay", training.weight_decay),
        *_optimizer_options(recipe),
        mapped("training.max_grad_norm", "optim.clip_grad", training.max_grad_norm),
    ]


def _optimizer_options(recipe: Recipe) -> list[Entry]:
    training, more = recipe.training, "optim.override_optimizer_config"
    betas, eps = list(training.betas), training.optimizer_options.eps
    if on_megatron(recipe):  # where verl passes over optim.betas
        return [
            mapped("training.betas", (f"{more}.adam_beta1", f"{more}.adam_beta2"), betas),
            mapped("training.optimizer_options.eps", f"{more}.adam_eps", eps),
        ]
    return [
        mapped("training.betas", "optim.betas", betas),
        mapped("training.optimizer_options.eps", f"{more}.eps", eps),
    ]


def _optimizer(recipe: Recipe) -> Entry:
    if recipe.training.optimizer != "adamw":
        return refused("training.optimizer", "verl trains with adamw here")
    return mapped("training.optimizer", "optim.optimizer", "adam" if on_megatron(recipe) else "AdamW")


def _scheduler(recipe: Recipe) -> Entry:
    name = recipe.training.scheduler
    if on_megatron(recipe):
        return mapped("training.scheduler", "optim.lr_decay_style", name)
    if name == "linear":
        return refused("training.scheduler", "verl has cosine and constant under fsdp and fsdp2")
    return mapped("training.scheduler", "optim.lr_scheduler_type", name)


def _warmup(recipe: Recipe, steps: Schedule) -> list[Entry]:
    training = recipe.training
    if training.warmup_steps is not None:
        return [
            mapped("training.warmup_steps", "optim.lr_warmup_steps", training.warmup_steps),
            runner("training.warmup_ratio", "not given: warmup_steps is"),
        ]
    if steps.total is None:
        entry = mapped("training.warmup_ratio", "optim.lr_warmup_steps_ratio", training.warmup_ratio)
    else:  # verl rounds the steps down, transformers up
        warmup = math.ceil(training.warmup_ratio * steps.total)
        entry = mapped(
            "training.warmup_ratio", "optim.lr_warmup_steps", warmup, f"{training.warmup_ratio} of {steps.total}"
        )
    return [entry, runner("training.warmup_steps", "not given: warmup_ratio is")]


def computing(recipe: Recipe, topology: Topology) -> list[Entry]:
    training, compute = recipe.training, precision(recipe, topology)
    if on_megatron(recipe):
        again = "full" if training.gradient_checkpointing else None
        key = "engine.override_transformer_config.recompute_granularity"
        kind = {"bf16": "bfloat16", "fp16": "float16"}.get(compute, compute)
        own = [
            mapped("training.precision", "engine.dtype", kind),
            mapped("training.gradient_checkpointing", key, again),
        ]
    else:
        key = "model.enable_gradient_checkpointing"
        own = [
            mapped("training.precision", "engine.mixed_precision.param_dtype", compute),
            mapped("training.gradient_checkpointing", key, training.gradient_checkpointing),
        ]
    only = "verl has no such setting"
    return [
        *own,
        _kernels(recipe, topology),
        refused("training.compile", "verl compiles by itself what it gains from"),
        refused("training.dataloader_workers", "verl has workers of its own"),
        refused("training.group_by_length", only),
        refused("training.neftune_alpha", only),
        refused("training.log_every", "verl reports every step; take it out"),
    ]


def takes_liger(recipe: Recipe, topology: Topology) -> bool:
    """Whether Liger's kernels are asked for, or known to be the fastest: for GRPO nobody has measured it."""
    asked = recipe.training.kernels
    return asked == "liger" or (asked == "auto" and bool(topology.gpus) and recipe.method != "grpo")


def _kernels(recipe: Recipe, topology: Topology) -> Entry:
    field, taken = "training.kernels", takes_liger(recipe, topology)
    if on_megatron(recipe):
        return refused(field, "megatron has kernels of its own")
    notes = {True: "liger, where it knows the model's family; the log says which", False: "none"}
    return mapped(field, "model.use_liger", taken, notes[taken] if recipe.training.kernels == "auto" else "")


def _distributed(recipe: Recipe) -> list[Entry]:
    spread, name = recipe.distributed, strategy(recipe)
    keys = {
        "tensor_parallel": "engine.tensor_model_parallel_size",
        "pipeline_parallel": "engine.pipeline_model_parallel_size",
        "expert_parallel": "engine.expert_model_parallel_size",
    }
    sequence = "engine.context_parallel_size" if on_megatron(recipe) else "engine.ulysses_sequence_parallel_size"
    # Under fsdp2, param_offload gives the memory back between steps only; offload_policy does so within them.
    offload = "engine.offload_policy" if name == "fsdp2" else "engine.param_offload"
    return [
        mapped("distributed.strategy", "engine.strategy", name),
        mapped("distributed.offload_parameters", offload, spread.offload_parameters),
        mapped("distributed.offload_optimizer", "engine.optimizer_offload", spread.offload_optimizer),
        *(
            mapped(f"distributed.{leaf}", key, getattr(spread, leaf))
            if on_megatron(recipe)
            else refused(f"distributed.{leaf}", "belongs to strategy: megatron")
            for leaf, key in keys.items()
        ),
        mapped("distributed.sequence_parallel", sequence, spread.sequence_parallel),
        padding(recipe, "model.use_remove_padding"),
        mapped("distributed.max_tokens_per_device", "data.max_token_len_per_gpu", spread.max_tokens_per_device)
        if spread.max_tokens_per_device
        else runner("distributed.max_tokens_per_device", "not given: training.micro_batch_size is"),
    ]


def padding(recipe: Recipe, key: str) -> Entry:
    """Whether rows are computed without what fills them up.

    Micro batches by tokens count the rows' own: with padding, one long row would lengthen all the short ones beside it.
    """
    why = recipe.together or ("training.micro_batch_size" if by_tokens(recipe) else "")
    note = f"as {why} needs it" if why and not recipe.distributed.remove_padding else ""
    return mapped("distributed.remove_padding", key, padding_free(recipe), note)


def padding_free(recipe: Recipe) -> bool:
    return bool(recipe.together) or by_tokens(recipe)


def packing(recipe: Recipe) -> Entry:
    if METHODS[recipe.method].rows not in PACKED:
        return refused("data.packing", "only the rows of sft and pretrain can be packed")
    if on_megatron(recipe):
        return refused("data.packing", "under megatron the rows of a pack would see one another; use fsdp2 or fsdp")
    return runner("data.packing", "the rows come packed; their position_ids keep them apart")


def _saving(recipe: Recipe) -> list[Entry]:
    return [
        mapped("checkpoint.every", "trainer.save_freq", recipe.checkpoint.every or -1, "and at the end"),
        kept_checkpoints(recipe, "trainer.max_ckpt_to_keep"),
        mapped("eval.loss_every", "trainer.test_freq", recipe.eval.loss_every or -1),
        mapped("logging", "trainer.logger", ["console", "file", *recipe.logging]),
    ]


def refused_everywhere() -> list[Entry]:
    """What no method on verl honours."""
    return [
        *(
            refused(name, "no method on verl learns from preferences")
            for name in schema.leaves()
            if name.startswith("preference.")
        ),
    ]
