"""The recipe in verl's words: each field's Hydra key and value, as one list that is both ledger and config."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adapters.contract import PreparedData, Topology
from adapters.ledger import Entry, kept_checkpoints, mapped, plain, refused, runner, runner_fields
from adapters.native import precision
from recipes import Recipe, schema

NOT_LORA = "belongs to tuning.type: lora"
ADAPTER = "backend/initial_adapter"  # made by lora.py of LORA_FILE
LORA_FILE = "backend/lora.json"


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


def entries(recipe: Recipe, topology: Topology, data: PreparedData | None = None) -> list[Entry]:
    """The ledger of SFT and pretrain: what becomes of every leaf of the schema."""
    steps = schedule(recipe, data or PreparedData())
    return [
        *runner_fields(),
        runner("method", f"{recipe.method}: verl.trainer.sft_trainer"),
        *model(recipe),
        *tuning(recipe),
        *_length(recipe, steps),
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
        mapped("model.trust_remote_code", "model.trust_remote_code", given.trust_remote_code),
        mapped("model.attention", "model.override_config.attn_implementation", attention),
    ]


def tuning(recipe: Recipe) -> list[Entry]:
    tuning = recipe.tuning
    quantization = refused("tuning.quantization", "verl trains LoRA on an unquantized base")
    others = [
        refused("tuning.lora_plus_ratio", "verl has one learning rate for all of an adapter"),
        *(refused(f"tuning.{name}", "belongs to tuning.type: freeze") for name in ("layers", "modules")),
    ]
    names = ("rank", "alpha", "dropout", "target_modules", "rslora", "dora")
    if tuning.type == "full":
        kind = mapped("tuning.type", "model.lora_rank", 0)
        return [kind, quantization, *others, *(refused(f"tuning.{name}", NOT_LORA) for name in names)]
    if on_megatron(recipe):
        return [*_megatron_lora(recipe), quantization, *others]
    # Its FSDP engine has no key for most PEFT options: they go in with the adapter that it starts from.
    return [
        mapped("tuning.type", "model.lora_adapter_path", ADAPTER, f"made of {LORA_FILE} before the training"),
        mapped("tuning.rank", "model.lora_rank", tuning.rank),
        mapped("tuning.alpha", "model.lora_alpha", tuning.alpha),
        mapped("tuning.dropout", "lora_dropout", tuning.dropout, file=LORA_FILE),
        mapped("tuning.target_modules", "target_modules", plain(tuning.target_modules), file=LORA_FILE),
        mapped("tuning.rslora", "use_rslora", tuning.rslora, file=LORA_FILE),
        mapped("tuning.dora", "use_dora", tuning.dora, file=LORA_FILE),
        quantization,
        *others,
    ]


# The linear layers of Hugging Face models by Megatron-Bridge's names; its canonical LoRA splits what Megatron fuses.
MEGATRON_LAYERS = {
    "q_proj": "linear_q",
    "k_proj": "linear_k",
    "v_proj": "linear_v",
    "o_proj": "linear_proj",
    "gate_proj": "linear_fc1_gate",
    "up_proj": "linear_fc1_up",
    "down_proj": "linear_fc2",
}


def _megatron_lora(recipe: Recipe) -> list[Entry]:
    tuning, no = recipe.tuning, "its LoRA under Megatron has none; use strategy: fsdp2"
    asked = tuning.target_modules
    layers = list(MEGATRON_LAYERS) if isinstance(asked, str) else asked
    return [
        mapped("tuning.type", "model.lora.type", "canonical_lora"),
        mapped("tuning.rank", "model.lora.rank", tuning.rank),
        mapped("tuning.alpha", "model.lora.alpha", tuning.alpha),
        mapped("tuning.dropout", "model.lora.dropout", tuning.dropout),
        mapped(
            "tuning.target_modules", "model.lora.target_modules", [MEGATRON_LAYERS.get(name, name) for name in layers]
        ),
        refused("tuning.rslora", no),
        refused("tuning.dora", no),
    ]


def initial_adapter(recipe: Recipe) -> bool:
    """Whether a run starts from an adapter that lora.py makes."""
    return recipe.tuning.type == "lora" and not on_megatron(recipe)


def _length(recipe: Recipe, steps: Schedule) -> list[Entry]:
    training, batch = recipe.training, recipe.training.global_batch_size
    note = f"{steps.per_epoch} steps an epoch" if steps.per_epoch else ""
    return [
        mapped("training.epochs", "trainer.total_epochs", steps.epochs, note),
        mapped("training.max_steps", "trainer.total_training_steps", steps.total),
        mapped("training.global_batch_size", "data.train_batch_size", batch),
        mapped("training.micro_batch_size", "data.micro_batch_size_per_gpu", training.micro_batch_size),
        mapped("training.seed", "engine.seed", training.seed, "order of the rows, initial adapter, dropout"),
    ]


def optimizer(recipe: Recipe, steps: Schedule) -> list[Entry]:
    training = recipe.training
    return [
        _optimizer(recipe),
        mapped("training.learning_rate", "optim.lr", training.learning_rate),
        _scheduler(recipe),
        *_warmup(recipe, steps),
        mapped("training.weight_decay", "optim.weight_decay", training.weight_decay),
        mapped("training.betas", "optim.betas", list(training.betas)),
        mapped("training.max_grad_norm", "optim.clip_grad", training.max_grad_norm),
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
        _kernels(recipe),
        refused("training.compile", "verl compiles by itself what it gains from"),
        refused("training.dataloader_workers", "verl has workers of its own"),
        refused("training.group_by_length", only),
        refused("training.neftune_alpha", only),
        refused("training.log_every", "verl reports every step; take it out"),
    ]


def _kernels(recipe: Recipe) -> Entry:
    asked, field = recipe.training.kernels, "training.kernels"
    if on_megatron(recipe):
        return refused(field, "megatron has kernels of its own")
    return mapped(
        field, "model.use_liger", asked == "liger", "none: not measured on verl yet" if asked == "auto" else ""
    )


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
        mapped(
            "distributed.remove_padding",
            "model.use_remove_padding",
            spread.remove_padding or recipe.data.packing,
            "as data.packing needs it" if recipe.data.packing else "",
        ),
        mapped("distributed.max_tokens_per_device", "data.max_token_len_per_gpu", spread.max_tokens_per_device),
    ]


def packing(recipe: Recipe) -> Entry:
    if recipe.method != "sft":
        return refused("data.packing", "only the rows of sft can be packed")
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
