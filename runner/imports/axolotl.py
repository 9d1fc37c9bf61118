"""Axolotl's YAML as a recipe for LLaMA-Factory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.imports.axolotl_data import take_data
from runner.imports.sharding import sharding
from runner.imports.taken import Entry, Simple, Taken, choice, fraction, names_of, number, positive

_OPTIMIZERS = {
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused", "adamw_hf"), "adamw"),
    **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "adamw_torch_8bit"), "adamw_8bit"),
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "lion_32bit": "lion",
    "muon": "muon",
}
_SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}
_ATTENTION = {"flash_attention_2": "auto", "sdpa": "sdpa", "eager": "eager"}
_SIMPLE = (
    Simple("base_model", "model.path"),
    Simple("revision_of_model", "model.revision"),
    Simple("tokenizer_config", "model.tokenizer"),
    Simple("trust_remote_code", "model.trust_remote_code"),
    Simple("sequence_len", "data.max_length", default=512),
    Simple("sample_packing", "data.packing"),
    Simple("dataset_exact_deduplication", "data.dedup", lambda value: "exact" if value else None),
    Simple(
        "excess_length_strategy",
        "data.overlong",
        choice({"drop": "drop", "truncate": "truncate", "raise": "error"}, "use drop or truncate"),
    ),
    Simple("attn_implementation", "model.attention", choice(_ATTENTION, "use sdpa or flash_attention_2")),
    Simple("val_set_size", "data.validation.fraction", fraction),
    Simple("num_epochs", "training.epochs", number, default=1),
    Simple("max_steps", "training.max_steps", positive),
    Simple("micro_batch_size", "training.micro_batch_size", default=1),
    Simple("learning_rate", "training.learning_rate", number),
    Simple("lr_scheduler", "training.scheduler", choice(_SCHEDULERS, "use cosine, linear or constant")),
    Simple("optimizer", "training.optimizer", choice(_OPTIMIZERS, "use adamw"), default="adamw"),
    Simple("warmup_steps", "training.warmup_steps", positive),
    Simple("warmup_ratio", "training.warmup_ratio", number),
    Simple("weight_decay", "training.weight_decay", number),
    Simple("max_grad_norm", "training.max_grad_norm", number),
    Simple("gradient_checkpointing", "training.gradient_checkpointing", bool, default=False),
    Simple("noisy_embedding_alpha", "training.neftune_alpha", number),
    Simple("neftune_noise_alpha", "training.neftune_alpha", number),
    Simple("group_by_length", "training.group_by_length"),
    Simple("torch_compile", "training.compile", bool),
    Simple("dataloader_num_workers", "training.dataloader_workers"),
    Simple("logging_steps", "training.log_every"),
    Simple("seed", "training.seed"),
    Simple("save_total_limit", "checkpoint.keep"),
    Simple("save_steps", "checkpoint.every", positive),
    Simple("eval_steps", "eval.loss_every", positive),
    Simple("adam_epsilon", "training.optimizer_options.eps", number),
    Simple("tokens", "model.add_tokens"),
    Simple("dpo_label_smoothing", "preference.label_smoothing", number),
    Simple("orpo_alpha", "preference.beta", number),
    Simple("dpo_beta", "preference.beta", number),
    Simple("rl_beta", "preference.beta", number),
    Simple("rpo_alpha", "preference.sft_weight", number),
    Simple("kto_desirable_weight", "preference.chosen_weight", number),
    Simple("kto_undesirable_weight", "preference.rejected_weight", number),
)
# TRL's trainer of SimPO adds the loss of SFT, by its own default.
_SIMPO = (
    Simple("rl_beta", "preference.beta", number, default=0.1),
    Simple("simpo_gamma", "preference.gamma", number, default=0.5),
    Simple("cpo_alpha", "preference.sft_weight", number, default=1.0),
)
_LORA = (
    Simple("lora_model_dir", "model.adapter_path"),
    Simple("lora_r", "tuning.rank", default=8),
    Simple("lora_alpha", "tuning.alpha"),
    Simple("lora_dropout", "tuning.dropout", number),
    Simple("lora_modules_to_save", "tuning.modules_to_save"),
    Simple("peft_use_dora", "tuning.dora"),
    Simple("peft_use_rslora", "tuning.rslora"),
    Simple("loraplus_lr_ratio", "tuning.lora_plus_ratio", number),
)
_TARGETS = ("lora_target_linear", "lora_target_modules")
_NOWHERE = (
    ("runs lie in runs/NAME: `recipe run --runs-dir DIR --name NAME`", "output_dir"),
    ("transformers finds it out by the model's config.json", "model_type tokenizer_type is_llama_derived_model"),
    ("prepared rows are kept by content under the cache directory", "dataset_prepared_path shuffle_merged_datasets"),
    ("packs have no padding, and single rows are padded to the longest of their batch", "pad_to_sequence_len"),
    ("packed rows are held out as single rows", "eval_sample_packing"),
    ("`recipe resume RUN` goes on with a run", "resume_from_checkpoint auto_resume_from_checkpoints"),
    ("`recipe merge` makes the merged model, and checks it", "merge_lora"),
    (
        "set by the loggers' own variables (WANDB_PROJECT, …)",
        "wandb_entity wandb_watch wandb_name wandb_run_id wandb_log_model mlflow_tracking_uri mlflow_experiment_name",
    ),
    ("attention is chosen by model.attention; auto takes PyTorch's own", "xformers_attention sdp_attention"),
    ("tokens are those of the model's tokenizer", "special_tokens added_tokens_overrides"),
    ("a GPU computes TF32 where torch does by default", "tf32"),
    ("use the recipe's distributed.strategy: fsdp or fsdp2", "fsdp_version"),
    ("an upload is not a part of a training", "hub_model_id hub_strategy push_dataset_to_hub"),
    ("recipes train on replies only", "train_on_inputs"),
    ("strictness is the default: what is wrong with a row or key is an error", "strict"),
)


def read(given: Mapping[str, Any], directory: Path, gpus: int) -> Taken:
    """Args:
    given: the keys of the YAML. directory: where it lies. gpus: of all nodes.
    """
    taken = Taken({key: value for key, value in given.items() if value is not None})
    taken.recipe["backend"] = "llamafactory"
    _method(taken)
    gpus = taken.replicas(gpus, "context_parallel_size sequence_parallel_degree tensor_parallel_size")
    micro, often = taken.whole("micro_batch_size", 1), taken.whole("gradient_accumulation_steps", 1)
    often = max(1, taken.whole("batch_size", micro * often) // micro)
    constant = given.get("lr_scheduler") == "constant"
    if not constant and given.get("warmup_steps") is None and given.get("warmup_ratio") is None:
        taken.assume("warmup_ratio", "training.warmup_ratio", 0.03, "Axolotl ends it at 100 steps")
    taken.warmup("warmup_steps", "warmup_ratio", constant=constant)
    if taken.recipe.get("method") == "simpo":
        taken.simple(_SIMPO)
    taken.simple(_SIMPLE)
    taken.betas()
    key = "batch_size" if given.get("batch_size") else "gradient_accumulation_steps"
    (taken.put if key in taken.left else taken.assume)(
        key, "training.global_batch_size", micro * often * gpus, f"{micro} x {often} x {gpus}"
    )
    _tuning(taken)
    _precision(taken)
    _attention(taken)
    _kernels(taken)
    take_data(taken)
    sharding(taken, directory)
    _logging(taken)
    if taken.left.get("train_on_inputs") is False:
        taken.note("train_on_inputs", "recipes train on replies only")
    taken.drop_all(_NOWHERE)
    for key, field in (("evals_per_epoch", "eval.loss_every"), ("saves_per_epoch", "checkpoint.every")):
        taken.drop(key, f"{field} counts steps: `recipe plan` says how many an epoch has")
    return taken


def _method(taken: Taken) -> None:
    methods = {"dpo": "dpo", "ipo": "dpo", "kto": "kto", "orpo": "orpo", "simpo": "simpo"}
    rl = str(taken.left.get("rl") or "")
    if taken.left.get("reward_model") is True:
        taken.put("reward_model", "method", "reward")
    elif rl in methods:
        taken.put("rl", "method", methods[rl])
        if rl == "ipo":
            taken.also("rl", "preference.loss", "ipo")
    elif rl:
        taken.drop("rl", "use method: grpo on backend: verl" if rl == "grpo" else "recipes have no such method")
    else:
        taken.left.pop("rl", None)
        listed = taken.left.get("datasets")
        kinds = {str(one.get("type")) for one in listed if isinstance(one, dict)} if isinstance(listed, list) else set()
        method = "pretrain" if taken.left.get("pretraining_dataset") or kinds == {"completion"} else "sft"
        taken.assume("rl", "method", method)


def _tuning(taken: Taken) -> None:
    adapter = taken.left.get("adapter")
    if adapter in ("lora", "qlora"):
        taken.put("adapter", "tuning.type", "lora")
        bits = {"load_in_4bit": "4bit", "load_in_8bit": "8bit"}
        for key, value in bits.items():
            if taken.left.get(key):
                taken.put(key, "tuning.quantization", value)
        if adapter == "qlora" and "quantization" not in taken.recipe["tuning"]:
            taken.also("adapter", "tuning.quantization", "4bit", "qlora")
        taken.simple(_LORA)
        _targets(taken)
    elif adapter:
        taken.drop("adapter", "recipes have lora, and full tuning")
    else:
        taken.left.pop("adapter", None)
        taken.assume("adapter", "tuning.type", "full")
        taken.drop_all([("there is no adapter", " ".join((*(one.key for one in _LORA), *_TARGETS)))])
    for key in ("load_in_4bit", "load_in_8bit"):
        if not taken.left.get(key, True):
            taken.left.pop(key)


def _targets(taken: Taken) -> None:
    """The layers that are adapted: those that are named, and with lora_target_linear all others too."""
    every, named = (taken.left.get(key) for key in _TARGETS)
    if every or named == "all-linear":
        for key in _TARGETS:
            if taken.left.get(key) is not None:
                taken.note(key, "as a recipe has it by default: all linear layers")
    elif isinstance(named, str) and re.search(r"[][()|*+?^$\\]", named):
        taken.drop("lora_target_modules", "recipes have no patterns: name the layers in tuning.target_modules")
    elif named:
        taken.put("lora_target_modules", "tuning.target_modules", names_of(named))
    for key in _TARGETS:
        if taken.left.get(key) is not None:
            taken.note(key, "the layers are those that are named" if named else "no layer is named: all linear layers")


def _precision(taken: Taken) -> None:
    """bf16 goes before fp16; it is auto where it is not given, and fp32 where it is off."""
    keys = {"bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16"}
    given = {key: taken.left[key] for key in keys if taken.left.get(key) is not None}
    on = next((key for key in given if given[key]), None)
    if on:
        taken.put(on, "training.precision", "auto" if given[on] == "auto" else keys[on])
    elif "bf16" in given or "bfloat16" in given:
        off = "bf16" if "bf16" in given else "bfloat16"
        taken.put(off, "training.precision", "fp32")
    for key in keys:
        if taken.left.get(key) is not None:
            taken.note(key, f"training.precision: {taken.recipe.get('training', {}).get('precision', 'auto')}")


def _attention(taken: Taken) -> None:
    if taken.left.get("flash_attention"):
        taken.put("flash_attention", "model.attention", "auto", "packs need no flash-attn here")
    taken.left.pop("flash_attention", None)
    if taken.left.get("eager_attention"):
        taken.put("eager_attention", "model.attention", "eager")


_NO_PLUGINS = "recipes have Liger's kernels (training.kernels), and no other plugins"


def _kernels(taken: Taken) -> None:
    others = [one for one in names_of(taken.left.get("plugins") or "") if "liger" not in one.lower()]
    liger = [key for key in taken.left if key.startswith("liger_")]
    if len(others) < len(names_of(taken.left.get("plugins") or "")):
        if others:
            taken.entries.append(Entry("plugins", others, "no place", _NO_PLUGINS))
        taken.put("plugins", "training.kernels", "liger")
        for key in liger:
            taken.note(key, "training.kernels: liger takes all that there are for the family")
    else:
        taken.drop("plugins", _NO_PLUGINS)


def _logging(taken: Taken) -> None:
    names = [name for name in ("wandb", "mlflow") if any(key.startswith(f"{name}_") for key in taken.left)]
    if taken.left.get("use_tensorboard"):
        names.append("tensorboard")
    taken.left.pop("use_tensorboard", None)
    on = [name for name in names if name != "wandb" or taken.left.get("wandb_project")]
    if on:
        taken.put("wandb_project", "logging", on, "set WANDB_PROJECT")
    taken.left.pop("wandb_project", None)
