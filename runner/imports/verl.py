"""verl's Hydra overrides, of a command line or a file, as a recipe for verl: SFT and GRPO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.verl.options import tree
from recipes.yaml_text import parse
from runner.imports import shell
from runner.imports.taken import Simple, Taken, choice, names_of, number, positive
from runner.imports.verl_grpo import ACTOR, ROLLOUT, take_grpo

TRAINERS = tuple(f"verl.trainer.{name}" for name in ("main_ppo", "sft_trainer", "fsdp_sft_trainer", "sft_trainer_ray"))
_NO_VALUE = "a variable in it has no value here, or a branch sets it too: set the environment, or the field by hand"
_RUNS = "the run's name and place are the runner's: `recipe run --runs-dir DIR --name NAME`"
_MACHINES = "the machines are set by the environment: N_GPUS, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT"
_OVERRIDE = re.compile(r"\+{0,2}[\w.@/]+=")
_UNKNOWN = re.compile(r"~|--config-|-c[npd]\b|\$(?![@*]|\{[@*])")
_STRATEGY = choice({"fsdp": "fsdp", "fsdp2": "fsdp2", "megatron": "megatron"}, "use fsdp2 or megatron")
_TRAINER = (
    Simple("trainer.total_epochs", "training.epochs"),
    Simple("trainer.total_training_steps", "training.max_steps"),
    Simple("trainer.save_freq", "checkpoint.every", positive, null=True),
    Simple("trainer.test_freq", "eval.loss_every", positive),
    Simple("trainer.seed", "training.seed"),
    Simple("trainer.max_ckpt_to_keep", "checkpoint.keep"),
)


def _optimizer(prefix: str) -> tuple[Simple, ...]:
    return (
        Simple(f"{prefix}lr", "training.learning_rate", number, default=tree_default(prefix, "lr")),
        Simple(f"{prefix}lr_warmup_steps", "training.warmup_steps", positive),
        Simple(f"{prefix}lr_warmup_steps_ratio", "training.warmup_ratio", number),
        Simple(f"{prefix}warmup_steps_ratio", "training.warmup_ratio", number),
        Simple(f"{prefix}weight_decay", "training.weight_decay", number, default=0.01),
        Simple(f"{prefix}betas", "training.betas"),
        Simple(f"{prefix}clip_grad", "training.max_grad_norm", number),
        Simple(f"{prefix}lr_scheduler_type", "training.scheduler", _SCHEDULER, default="constant"),
        Simple(f"{prefix}warmup_style", "training.scheduler", _SCHEDULER),
        Simple(f"{prefix}lr_scheduler", "training.scheduler", _SCHEDULER),
    )


_SCHEDULER = choice({"cosine": "cosine", "constant": "constant", "linear": "linear"}, "use cosine or constant")


def tree_default(prefix: str, name: str) -> Any:
    known = tree("grpo" if prefix.startswith("actor_") else "sft-fsdp").get(f"{prefix}{name}")
    return known.default if known else None


def _model(prefix: str) -> tuple[Simple, ...]:
    return (
        Simple(f"{prefix}path", "model.path"),
        Simple(f"{prefix}partial_pretrain", "model.path"),
        Simple(f"{prefix}trust_remote_code", "model.trust_remote_code"),
        Simple(f"{prefix}enable_gradient_checkpointing", "training.gradient_checkpointing"),
        Simple(f"{prefix}use_remove_padding", "distributed.remove_padding"),
    )


# What verl's fsdp_sft_trainer, which is gone, does by default; its own key of the model tells it.
_OLD_SFT: Mapping[str, Any] = {
    "optim.lr": 1e-5, "optim.betas": [0.9, 0.95],
    "optim.lr_scheduler_type": "cosine", "optim.lr_warmup_steps_ratio": 0.1,
}  # fmt: skip
_SFT = (
    *_model("model."),
    *_optimizer("optim."),
    *_TRAINER,
    Simple("data.max_length", "data.max_length", default=1024),
    Simple("data.train_batch_size", "training.global_batch_size", default=256),
    Simple("data.micro_batch_size_per_gpu", "training.micro_batch_size", default=4),
    Simple("data.micro_batch_size", "training.micro_batch_size"),
    Simple(
        "data.truncation", "data.overlong", choice({"error": "error", "right": "truncate"}, "use truncate"), "error"
    ),
    Simple("use_remove_padding", "distributed.remove_padding"),
    *(
        Simple(f"{section}.{key}", f"distributed.{field}", convert)
        for section in ("engine", "model", "model.fsdp_config")
        for key, field, convert in (
            ("strategy", "strategy", _STRATEGY),
            ("param_offload", "offload_parameters", bool),
            ("optimizer_offload", "offload_optimizer", bool),
            ("ulysses_sequence_parallel_size", "sequence_parallel", int),
            ("tensor_model_parallel_size", "tensor_parallel", int),
            ("pipeline_model_parallel_size", "pipeline_parallel", int),
        )
    ),
    Simple("ulysses_sequence_parallel_size", "distributed.sequence_parallel"),
)
_GRPO = (
    *_model("actor_rollout_ref.model."),
    *_optimizer(f"{ACTOR}optim."),
    *_TRAINER,
    Simple("data.train_batch_size", "training.global_batch_size", default=1024),
    Simple("data.max_prompt_length", "grpo.rollouts.max_prompt_length"),
    Simple("data.max_response_length", "grpo.rollouts.max_reply_length"),
    Simple("data.seed", "data.seed"),
    Simple(f"{ACTOR}ppo_micro_batch_size_per_gpu", "training.micro_batch_size"),
    Simple(f"{ACTOR}clip_ratio_low", "grpo.clip_ratio", number),
    Simple(f"{ACTOR}clip_ratio_high", "grpo.clip_ratio_high", number),
    Simple(f"{ACTOR}grad_clip", "training.max_grad_norm", number),
    Simple(f"{ACTOR}strategy", "distributed.strategy", _STRATEGY),
    Simple(f"{ACTOR}fsdp_config.param_offload", "distributed.offload_parameters", bool),
    Simple(f"{ACTOR}fsdp_config.optimizer_offload", "distributed.offload_optimizer", bool),
    Simple(f"{ACTOR}ulysses_sequence_parallel_size", "distributed.sequence_parallel"),
    Simple(f"{ACTOR}ppo_max_token_len_per_gpu", "distributed.max_tokens_per_device"),
    Simple(f"{ROLLOUT}name", "grpo.rollouts.engine", choice({"vllm": "vllm", "sglang": "sglang"}, "use vllm")),
    Simple(f"{ROLLOUT}n", "grpo.rollouts.n"),
    Simple(f"{ROLLOUT}temperature", "grpo.rollouts.temperature", number),
    Simple(f"{ROLLOUT}top_p", "grpo.rollouts.top_p", number),
    Simple(f"{ROLLOUT}tensor_model_parallel_size", "grpo.rollouts.tensor_parallel"),
    Simple(f"{ROLLOUT}gpu_memory_utilization", "grpo.rollouts.gpu_memory_utilization", number),
)
_NOWHERE = (
    (_RUNS, "trainer.project_name trainer.experiment_name trainer.default_local_dir trainer.default_hdfs_dir"),
    (_MACHINES, "trainer.n_gpus_per_node trainer.nnodes trainer.device"),
    ("GRPO has no critic", "trainer.critic_warmup"),
    (
        "prompts are read, checked and cut by the runner",
        "data.filter_overlong_prompts data.shuffle data.val_batch_size",
    ),
    (
        "replies are scored again with training.micro_batch_size",
        f"{ROLLOUT}log_prob_micro_batch_size_per_gpu {ROLLOUT}log_prob_micro_batch_size "
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu actor_rollout_ref.ref.log_prob_micro_batch_size",
    ),
    ("the reference model is offloaded as the actor is", "actor_rollout_ref.ref.fsdp_config.param_offload"),
    ("the validation loss is computed every eval.loss_every steps", "trainer.val_before_train trainer.val_only"),
    ("`recipe resume RUN` goes on with a run", "trainer.resume_mode trainer.resume_from_path"),
    ("batches by tokens are distributed.max_tokens_per_device", f"{ACTOR}use_dynamic_bsz data.use_dynamic_bsz"),
)


def overrides(text: str) -> dict[str, Any]:
    """The Hydra overrides of a shell script or command line that calls a trainer of verl, values as YAML.

    Variables are put in, of the script, in order, and else of the environment; one without a value stays as it is.

    Raises:
        UserError: a quotation mark that no other follows.
    """
    found: dict[str, Any] = {}
    for word in shell.command(text, TRAINERS):
        key, _, value = word.lstrip("+").partition("=")
        if _OVERRIDE.match(word):
            found[key] = parse(value.encode(), key).value if value else None
        elif _UNKNOWN.match(word):
            found[word] = ""
    return found


def read(given: Mapping[str, Any], directory: Path, gpus: int) -> Taken:
    """Args:
    given: the overrides, dotted or nested. directory: where their file lies. gpus: of all nodes (no field needs them).
    """
    taken = Taken(flat(given))
    taken.recipe["backend"] = "verl"
    for key, value in list(taken.left.items()):
        if key.startswith(("~", "-")):
            taken.drop(key, "a configuration of one's own: import what the command writes with `--cfg job` behind it")
        elif "$" in f"{key}{value}":
            taken.drop(key, _NO_VALUE)
    grpo = any(key.startswith(("actor_rollout_ref.", "algorithm.")) for key in taken.left)
    prefix = "actor_rollout_ref.model." if grpo else "model."
    if grpo:
        take_grpo(taken)
    else:
        taken.assume("", "method", "sft")
    defaults = tree("grpo" if grpo else "sft-fsdp")
    if "trainer.total_epochs" not in taken.left and "trainer.total_training_steps" not in taken.left:
        taken.assume("trainer.total_epochs", "training.epochs", defaults["trainer.total_epochs"].default)
    if "trainer.save_freq" not in taken.left:
        taken.assume("trainer.save_freq", "checkpoint.every", None, "none are kept but the last")
    optim = f"{ACTOR}optim." if grpo else "optim."
    taken.warmup(f"{optim}lr_warmup_steps", f"{optim}lr_warmup_steps_ratio")
    old = _OLD_SFT if taken.left.get("model.partial_pretrain") else {}
    taken.simple(replace(one, default=old.get(one.key, one.default)) for one in (_GRPO if grpo else _SFT))
    _tuning(taken, prefix)
    _data(taken, grpo)
    loggers = taken.left.get("trainer.logger")
    names = [one for one in (loggers if isinstance(loggers, list) else [loggers]) if one not in (None, "console")]
    known = [one for one in names if one in ("tensorboard", "wandb", "swanlab", "mlflow")]
    if known:
        taken.put("trainer.logger", "logging", known)
    else:
        taken.drop("trainer.logger", "every run writes metrics.jsonl, and shows its steps")
    taken.drop_all(_NOWHERE)
    return taken


def flat(given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found


def _tuning(taken: Taken, prefix: str) -> None:
    rank = taken.left.get(f"{prefix}lora_rank") or 0
    if not rank:
        taken.left.pop(f"{prefix}lora_rank", None)
        taken.assume(f"{prefix}lora_rank", "tuning.type", "full")
        for key in ("lora_alpha", "target_modules"):
            taken.drop(f"{prefix}{key}", "acts with an adapter only")
        return
    taken.assume(f"{prefix}lora_rank", "tuning.type", "lora")
    taken.put(f"{prefix}lora_rank", "tuning.rank", rank)
    alpha = f"{prefix}lora_alpha"
    (taken.put if alpha in taken.left else taken.assume)(alpha, "tuning.alpha", taken.left.get(alpha, 16))
    targets = Simple(f"{prefix}target_modules", "tuning.target_modules", _layers)
    taken.simple([targets])


def _layers(value: Any) -> list[str] | None:
    return None if value == "all-linear" else names_of(value)


def _data(taken: Taken, grpo: bool) -> None:
    keys = (
        (("prompt_key", "prompt"),)
        if grpo
        else (("messages_key", "messages"), ("prompt_key", "prompt"), ("response_key", "response"))
    )
    columns = {ours: taken.left[f"data.{theirs}"] for theirs, ours in keys if taken.left.get(f"data.{theirs}")}
    columns = {ours: name for ours, name in columns.items() if ours != name}
    for key, field in (("data.train_files", "data.train"), ("data.val_files", "data.validation.sources")):
        files = taken.left.get(key)
        if files:
            listed = files if isinstance(files, list) else [files]
            taken.put(key, field, [{"path": one, **({"columns": dict(columns)} if columns else {})} for one in listed])
    for theirs, _ in keys:
        if taken.left.get(f"data.{theirs}"):
            taken.note(f"data.{theirs}", f"data.train[].columns: {columns or 'as recipes have it by default'}")
