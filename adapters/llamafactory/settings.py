"""The recipe in LLaMA-Factory's words: each field's key and value, as one list that is both ledger and config."""

from __future__ import annotations

from pathlib import Path

from adapters.contract import Checkpoint, Paths, Topology
from adapters.ledger import Entry, kept_checkpoints, mapped, plain, refused, runner, runner_fields
from adapters.llamafactory import tuning
from adapters.llamafactory.sharding import fsdp, fsdp_config, strategy
from adapters.lora import RESIDUAL, on_residual
from adapters.native import Config, gradient_accumulation, precision
from recipes import Recipe, schema
from recipes.methods import METHODS, PACKED, methods_with

# Rows come with labels on every token for pretrain: its own stage pt would take the end tokens from the loss.
STAGE = {"pretrain": "sft", "sft": "sft", "dpo": "dpo", "orpo": "dpo", "simpo": "dpo", "kto": "kto", "reward": "rm"}
ATTENTION = {"auto": "auto", "sdpa": "sdpa", "flash_attention_2": "fa2", "eager": "disabled"}
# By transformers' names; muon has a key of its own.
OPTIMIZERS = {
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "lion": "lion_32bit",
}


def entries(recipe: Recipe, topology: Topology) -> list[Entry]:
    """The ledger: what becomes of every leaf of the schema."""
    return [
        *runner_fields(),
        mapped("method", "stage", STAGE[recipe.method]),
        *_model(recipe),
        *tuning.entries(recipe),
        *_training(recipe, topology),
        *_preference(recipe),
        *_distributed(recipe, topology),
        *_saving(recipe),
        _packing(recipe),
        *_refused(),
        runner("backend_options", "native keys, added to the config as they are"),
    ]


def _model(recipe: Recipe) -> list[Entry]:
    model = recipe.model
    return [
        mapped("model.path", "model_name_or_path", model.path),
        mapped("model.adapter_path", "adapter_name_or_path", model.adapter_path),
        mapped("model.trust_remote_code", "trust_remote_code", model.trust_remote_code),
        _tokens(recipe),
        mapped("model.attention", "flash_attn", ATTENTION[model.attention]),
    ]


def _tokens(recipe: Recipe) -> Entry:
    field, tokens = "model.add_tokens", recipe.model.add_tokens
    if recipe.tuning.type == "freeze":
        return refused(field, "embeddings are not trained under tuning.type: freeze; use lora or full")
    note = "embeddings and head are trained whole" if tokens else ""
    return mapped(field, "resize_vocab", bool(tokens) or None, note)


def _training(recipe: Recipe, topology: Topology) -> list[Entry]:
    training, compute = recipe.training, precision(recipe, topology)
    # Where both are given, LLaMA-Factory lets warmup_ratio win: only one is ever written.
    if training.warmup_steps is not None:
        warmup = [
            mapped("training.warmup_steps", "warmup_steps", training.warmup_steps),
            runner("training.warmup_ratio", "not given: warmup_steps is"),
        ]
    else:
        warmup = [
            mapped("training.warmup_ratio", "warmup_ratio", training.warmup_ratio),
            runner("training.warmup_steps", "not given: warmup_ratio is"),
        ]
    return [
        mapped("training.epochs", "num_train_epochs", training.epochs),
        mapped("training.max_steps", "max_steps", training.max_steps or -1),
        mapped(
            "training.global_batch_size",
            "gradient_accumulation_steps",
            gradient_accumulation(recipe, topology),
            f"{training.global_batch_size} = {training.micro_batch_size} x {topology.world_size} x accumulation",
        ),
        mapped("training.micro_batch_size", "per_device_train_batch_size", training.micro_batch_size),
        _optimizer(recipe, topology),
        mapped("training.learning_rate", "learning_rate", training.learning_rate),
        mapped("training.scheduler", "lr_scheduler_type", _scheduler(recipe)),
        *warmup,
        mapped("training.weight_decay", "weight_decay", training.weight_decay),
        *_optimizer_options(recipe),
        mapped("training.max_grad_norm", "max_grad_norm", training.max_grad_norm),
        _precision(compute),
        mapped(
            "training.gradient_checkpointing", "disable_gradient_checkpointing", not training.gradient_checkpointing
        ),
        _kernels(recipe, topology),
        mapped("training.compile", "torch_compile", training.compile or None),
        mapped("training.dataloader_workers", "dataloader_num_workers", training.dataloader_workers or None),
        mapped(
            "training.group_by_length",
            "train_sampling_strategy",
            "group_by_length" if training.group_by_length else None,
        ),
        _neftune(recipe),
        mapped("training.log_every", "logging_steps", training.log_every),
        mapped("training.seed", "seed", training.seed),
    ]


def _neftune(recipe: Recipe) -> Entry:
    field = "training.neftune_alpha"
    if recipe.method == "reward" and recipe.tuning.type == "lora":
        return refused(field, "the Trainer does not find the embeddings of a reward model with an adapter")
    return mapped(field, "neftune_noise_alpha", recipe.training.neftune_alpha)


def _optimizer(recipe: Recipe, topology: Topology) -> Entry:
    name, field = recipe.training.optimizer, "training.optimizer"
    if name == "muon":
        return mapped(field, "use_muon", True, "of matrices; AdamW for embeddings, head, biases and norms")
    # Fused: one kernel for all parameters, equal to rounding.
    return mapped(field, "optim", OPTIMIZERS.get(name, "adamw_torch_fused" if topology.gpus else "adamw_torch"))


def _optimizer_options(recipe: Recipe) -> list[Entry]:
    training, name = recipe.training, recipe.training.optimizer
    betas, eps = "training.betas", "training.optimizer_options.eps"
    return [
        refused(betas, "adafactor has none")
        if name == "adafactor"
        else mapped(betas, ("adam_beta1", "adam_beta2"), list(training.betas)),
        refused(eps, f"{name} has none that can be set")
        if name in ("adafactor", "lion")
        else mapped(eps, "adam_epsilon", training.optimizer_options.eps),
    ]


def _kernels(recipe: Recipe, topology: Topology) -> Entry:
    asked, field, key = recipe.training.kernels, "training.kernels", "enable_liger_kernel"
    if not topology.gpus:
        return runner(field, "none: they are for GPUs")
    if recipe.training.compile and asked == "auto":
        return mapped(field, key, False, "none: torch.compile cannot trace Liger's")
    if asked == "auto":
        return mapped(field, key, True, "liger, where LLaMA-Factory knows the model's family; its log says which")
    return mapped(field, key, asked == "liger")


def _scheduler(recipe: Recipe) -> str:
    # "constant" ignores the warmup in transformers.
    training = recipe.training
    warms = training.warmup_ratio or training.warmup_steps
    return "constant_with_warmup" if training.scheduler == "constant" and warms else training.scheduler


def _precision(compute: str) -> Entry:
    field, note = "training.precision", "the model is loaded so, whatever its checkpoint is in"
    return mapped(field, "infer_dtype", "float32", note) if compute == "fp32" else mapped(field, compute, True)


def _preference(recipe: Recipe) -> list[Entry]:
    preference, method = recipe.preference, recipe.method
    keys = {
        "beta": "pref_beta",
        "gamma": "simpo_gamma",
        "loss": "pref_loss",
        "label_smoothing": "dpo_label_smoothing",
        "sft_weight": "pref_ftx",
        "chosen_weight": "kto_chosen_weight",
        "rejected_weight": "kto_rejected_weight",
    }
    return [
        mapped(f"preference.{name}", key, getattr(preference, name))
        if name in METHODS[method].preference
        else refused(f"preference.{name}", f"belongs to {methods_with(name)}")
        for name, key in keys.items()
    ]


def _distributed(recipe: Recipe, topology: Topology) -> list[Entry]:
    name = strategy(recipe)
    found: list[Entry] = []
    if name.startswith("deepspeed"):
        found.append(mapped("distributed.strategy", "deepspeed", "backend/deepspeed.json", name))
    elif name.startswith("fsdp"):
        found.append(mapped("distributed.strategy", "fsdp", fsdp(recipe), f"{name}; fsdp_config beside it"))
    else:
        found.append(runner("distributed.strategy", "ddp: torchrun where there is more than one process"))
    for leaf, sharded in (
        ("offload_parameters", ("deepspeed-zero3", "fsdp", "fsdp2")),
        ("offload_optimizer", ("deepspeed-zero2", "deepspeed-zero3")),
    ):
        where = f"distributed.{leaf}"
        found.append(
            runner(where, f"written into the {name} config")
            if name in sharded
            else refused(where, f"needs distributed.strategy: {' or '.join(sharded)} on llamafactory")
        )
    return found


def _saving(recipe: Recipe) -> list[Entry]:
    checkpoint, evaluation = recipe.checkpoint, recipe.eval
    return [
        mapped(
            "checkpoint.every", "save_steps", checkpoint.every or 10**9, "" if checkpoint.every else "at the end only"
        ),
        kept_checkpoints(recipe, "save_total_limit"),
        mapped("eval.loss_every", "eval_steps", evaluation.loss_every),
        mapped("logging", "report_to", plain(recipe.logging) or "none"),
    ]


def _refused() -> list[Entry]:
    parallel = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
    return [
        *(
            refused(name, "no method on llamafactory takes rewards")
            for name in schema.leaves()
            if name.startswith("grpo.")
        ),
        *(refused(f"distributed.{name}", "belongs to strategy: megatron") for name in parallel),
        refused("distributed.sequence_parallel", "llamafactory does not split sequences"),
        refused("distributed.remove_padding", "llamafactory computes on padded rows"),
        refused("distributed.max_tokens_per_device", "llamafactory has micro batches of a fixed number of rows"),
    ]


def _packing(recipe: Recipe) -> Entry:
    if METHODS[recipe.method].rows not in PACKED:
        return refused("data.packing", "only the rows of sft and pretrain can be packed")
    if not recipe.data.packing:
        return runner("data.packing", "off: each row is a sequence, and pretrain has blocks of its documents")
    return mapped("data.packing", "neat_packing", True, "the rows come packed; each attends to itself alone")


def config(recipe: Recipe, topology: Topology, paths: Paths, resume: Checkpoint | None) -> Config:
    """LLaMA-Factory's own YAML as a dict, in the order in which a person reads it."""
    values: Config = {}
    for entry in entries(recipe, topology):
        if entry.status == "mapped" and entry.value is not None:
            values |= entry.values
    values["model_name_or_path"] = str(paths.run / RESIDUAL) if on_residual(recipe) else paths.model
    values |= _own(recipe, topology, paths)
    if resume:
        values["resume_from_checkpoint"] = str(resume.path)
    values |= plain(recipe.backend_options)
    return values


def _own(recipe: Recipe, topology: Topology, paths: Paths) -> Config:
    """The keys that no recipe field stands for."""
    own: Config = {
        "do_train": True,  # without it: exit code 0, and nothing trained
        "template": "empty",  # rows come tokenized: only the tokenizer is loaded, and left as it is
        "tokenized_path": str(paths.tokenized),
        "dataset": "train",  # wanted by its argument check; tokenized_path is what is read
        "cutoff_len": recipe.data.max_length,
        "output_dir": str(paths.checkpoints),
        "overwrite_output_dir": True,  # else it resumes from any checkpoint that it finds, a torn one too
        "save_strategy": "steps",
        "logging_nan_inf_filter": False,  # true shows a loss of NaN as 0
        "ddp_timeout": 7200,
        "disable_tqdm": True,  # the runner shows the progress, and bars make a log unreadable
    }
    if recipe.method in ("orpo", "simpo"):
        own["pref_loss"] = recipe.method
    if recipe.method == "reward":
        own["ddp_find_unused_parameters"] = False  # train_reward.py leaves none unused
    if recipe.model.adapter_path and recipe.method in ("dpo", "kto"):
        # By itself it takes the base without any adapter for the reference model, not what the training starts from.
        bits = {None: None, "4bit": 4, "8bit": 8}[recipe.tuning.quantization]
        reference = {"ref_model": paths.model, "ref_model_adapters": recipe.model.adapter_path}
        own |= reference | ({"ref_model_quantization_bit": bits} if bits else {})
    if recipe.tuning.quantization == "4bit":
        own |= {"quantization_type": "nf4", "double_quantization": True}
    if recipe.model.revision and not on_residual(recipe):
        own["model_revision"] = recipe.model.revision
    if not topology.gpus:
        own["use_cpu"] = True
    if recipe.eval.loss_every:
        own |= {
            "eval_strategy": "steps",
            "eval_dataset": "validation",
            "per_device_eval_batch_size": recipe.training.micro_batch_size,
        }
    if strategy(recipe).startswith("fsdp"):
        own["fsdp_config"] = fsdp_config(recipe)
    return own


def own_keys(recipe: Recipe, topology: Topology) -> dict[str, str]:
    """The native keys that `backend_options` may not set, each with the recipe field to use instead ("" if none)."""
    native = {key: entry.field for entry in entries(recipe, topology) if entry.status == "mapped" for key in entry.keys}
    paths = Paths(run=Path(), python=Path("python"), model="")
    own = dict.fromkeys(_own(recipe, topology, paths), "")
    return own | {"resume_from_checkpoint": "", "bf16": "training.precision", "fp16": "training.precision"} | native
