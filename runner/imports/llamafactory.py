"""LLaMA-Factory's YAML as a recipe: its keys, its defaults (0.9.5), and the data sets of its dataset_info.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.llamafactory.settings import ATTENTION, OPTIMIZERS
from runner.imports.llamafactory_data import take_data
from runner.imports.sharding import sharding
from runner.imports.taken import NoPlace, Simple, Taken, choice, names_of, number, positive

_RUNS = "runs lie in runs/NAME: `recipe run --runs-dir DIR --name NAME`"
_SIMPLE = (
    Simple("model_name_or_path", "model.path"),
    Simple("model_revision", "model.revision", lambda value: None if value == "main" else value),
    Simple("trust_remote_code", "model.trust_remote_code"),
    Simple("flash_attn", "model.attention", choice({theirs: ours for ours, theirs in ATTENTION.items()}, "use auto")),
    Simple("enable_thinking", "model.chat_template_kwargs.enable_thinking"),
    Simple("cutoff_len", "data.max_length"),
    Simple("mask_history", "data.train_on", lambda value: "last_turn" if value else "all_turns"),
    Simple("num_train_epochs", "training.epochs", number),
    Simple("max_steps", "training.max_steps", positive),
    Simple("learning_rate", "training.learning_rate", number, default=5e-5),
    Simple(
        "lr_scheduler_type",
        "training.scheduler",
        choice(
            {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"},
            "use cosine, linear or constant",
        ),
        default="linear",
    ),
    Simple("warmup_ratio", "training.warmup_ratio", number),
    Simple("warmup_steps", "training.warmup_steps", positive),
    Simple("weight_decay", "training.weight_decay", number),
    Simple("max_grad_norm", "training.max_grad_norm", number),
    Simple("disable_gradient_checkpointing", "training.gradient_checkpointing", lambda value: not value),
    Simple("enable_liger_kernel", "training.kernels", lambda value: "liger" if value else "none", default="none"),
    Simple(
        "optim",
        "training.optimizer",
        choice(
            dict.fromkeys(("adamw_torch", "adamw_torch_fused", "adamw_hf"), "adamw")
            | {"adamw_bnb_8bit": "adamw_8bit"}
            | {theirs: ours for ours, theirs in OPTIMIZERS.items()},
            "use adamw",
        ),
    ),
    Simple("use_muon", "training.optimizer", lambda value: "muon" if value else None),
    Simple("neftune_noise_alpha", "training.neftune_alpha", number),
    Simple("group_by_length", "training.group_by_length"),
    Simple("torch_compile", "training.compile"),
    Simple("dataloader_num_workers", "training.dataloader_workers"),
    Simple("logging_steps", "training.log_every", positive, default=500),
    Simple("seed", "training.seed"),
    Simple("adam_epsilon", "training.optimizer_options.eps", number),
    Simple("save_steps", "checkpoint.every", positive, null=True),
    Simple("save_total_limit", "checkpoint.keep", positive),
)
_LORA = (
    Simple("lora_rank", "tuning.rank", default=8),
    Simple("lora_alpha", "tuning.alpha"),
    Simple("lora_dropout", "tuning.dropout", number),
    Simple("adapter_name_or_path", "model.adapter_path", lambda value: _one(value)),
    Simple("additional_target", "tuning.modules_to_save", names_of),
    Simple("pissa_init", "tuning.init", lambda value: "pissa" if value else None),
    Simple("lora_target", "tuning.target_modules", lambda value: None if value == "all" else names_of(value)),
    Simple("use_rslora", "tuning.rslora"),
    Simple("use_dora", "tuning.dora"),
    Simple("loraplus_lr_ratio", "tuning.lora_plus_ratio", number),
    Simple("quantization_bit", "tuning.quantization", choice({4: "4bit", 8: "8bit"}, "use 4bit or 8bit")),
)
_FREEZE = (
    Simple("freeze_trainable_layers", "tuning.layers"),
    Simple("freeze_trainable_modules", "tuning.modules", lambda value: None if value == "all" else names_of(value)),
)
_PREFERENCE = {
    "dpo": (
        Simple("pref_beta", "preference.beta", number),
        Simple("pref_ftx", "preference.sft_weight", number),
        Simple("dpo_label_smoothing", "preference.label_smoothing", number),
    ),
    "orpo": (Simple("pref_beta", "preference.beta", number, default=0.1),),
    "simpo": (
        Simple("pref_beta", "preference.beta", number, default=0.1),
        Simple("pref_ftx", "preference.sft_weight", number),
        Simple("simpo_gamma", "preference.gamma", number, default=0.5),
    ),
    "kto": (
        Simple("pref_beta", "preference.beta", number),
        Simple("pref_ftx", "preference.sft_weight", number),
        Simple("kto_chosen_weight", "preference.chosen_weight", number),
        Simple("kto_rejected_weight", "preference.rejected_weight", number),
    ),
}
# Templates of LLaMA-Factory for which recipes have one of the same name, for models that bring none.
_TEMPLATES = ("alpaca", "deepseek", "gemma", "llama2", "llama3", "mistral", "phi", "qwen", "vicuna", "zephyr")
_NOWHERE = (
    (_RUNS, "output_dir overwrite_output_dir logging_dir"),
    ("`recipe resume RUN` goes on with a run", "resume_from_checkpoint"),
    (
        "rows are tokenized once, by all cores, and kept by content",
        "overwrite_cache preprocessing_num_workers preprocessing_batch_size tokenized_path data_shared_file_system",
    ),
    ("a recipe trains; the model is made, merged and served by `recipe merge` and `recipe serve`", "do_train"),
    ("use the recipe's eval.suites", "do_eval do_predict predict_with_generate"),
    ("checkpoints are kept whole, so that a run can be resumed", "save_only_model"),
    ("every run has its curves in report.html", "plot_loss"),
    ("nodes wait for each other as long as torch's own default says", "ddp_timeout"),
    ("the validation loss is computed with training.micro_batch_size", "per_device_eval_batch_size"),
    (
        "nothing of a row is added by LLaMA-Factory: rows are rendered by the chat template",
        "tool_format",
    ),
)


def read(given: Mapping[str, Any], directory: Path, gpus: int) -> Taken:
    """Args:
    given: the keys of the YAML. directory: where it lies, from which its paths are looked up. gpus: of all nodes.
    """
    taken = Taken({key: value for key, value in given.items() if value is not None})
    taken.recipe["backend"] = "llamafactory"
    method = _method(taken)
    taken.warmup("warmup_steps", "warmup_ratio", constant=given.get("lr_scheduler_type") == "constant")
    taken.simple(_SIMPLE)
    if "scheduler" not in taken.recipe.get("training", {}):
        taken.drop("lr_scheduler_kwargs", "of a schedule that recipes do not have")
    _tokens(taken)
    if method == "pretrain":
        taken.drop_all([("documents are always packed, and cut into blocks", "packing neat_packing")])
    _packing(taken)
    if not given.get("save_total_limit"):
        taken.assume("save_total_limit", "checkpoint.keep", None, "all are kept")
    kind = str(given.get("finetuning_type", "lora"))
    if kind in ("lora", "full", "freeze"):
        (taken.put if "finetuning_type" in given else taken.assume)("finetuning_type", "tuning.type", kind)
    else:
        taken.drop("finetuning_type", "recipes have lora, full and freeze")
    taken.simple({"lora": _LORA, "freeze": _FREEZE}.get(kind, ()))
    taken.simple(_PREFERENCE.get(method, ()))
    taken.betas()
    _precision(taken)
    _batch(taken, gpus)
    sharding(taken, directory)
    _template(taken)
    take_data(taken, directory)
    _evaluation(taken)
    _logging(taken)
    if method != "pretrain":
        taken.assume("cutoff_len", "data.overlong", "truncate", "LLaMA-Factory cuts longer rows")
    taken.drop_all(_NOWHERE)
    return taken


def _method(taken: Taken) -> str:
    stage, loss = str(taken.left.get("stage", "sft")), str(taken.left.get("pref_loss", "sigmoid"))
    method = {"pt": "pretrain", "sft": "sft", "dpo": "dpo", "kto": "kto", "rm": "reward"}.get(stage)
    if stage == "dpo" and loss in ("orpo", "simpo"):
        method = loss
    if method is None:
        why = "use method: grpo on backend: verl" if stage == "ppo" else "recipes have no such method"
        taken.drop("stage", why)
        return ""
    if stage == "pt" and "stage" in taken.left:
        taken.put("stage", "method", method, "end tokens carry loss, too")
    else:
        (taken.put if "stage" in taken.left else taken.assume)("stage", "method", method)
    if method == loss:
        taken.put("pref_loss", "method", method)
    elif stage == "dpo" and loss in ("hinge", "ipo", "sigmoid") and "pref_loss" in taken.left:
        taken.put("pref_loss", "preference.loss", loss)
    else:
        taken.drop("pref_loss", "recipes have sigmoid, hinge, ipo, and the methods orpo and simpo")
    return method


def _tokens(taken: Taken) -> None:
    keys = [key for key in ("add_tokens", "add_special_tokens") if taken.left.get(key)]
    names = [name for key in keys for name in names_of(taken.left[key])]
    for key in keys:
        taken.put(key, "model.add_tokens", names)


def _packing(taken: Taken) -> None:
    """neat_packing turns packing on; without it packed rows see each other."""
    on = [key for key in ("packing", "neat_packing") if taken.left.get(key)]
    for key in ("packing", "neat_packing"):
        if key in on:
            taken.put(key, "data.packing", True, "" if "neat_packing" in on else "packed rows do not see each other")
        elif taken.left.get(key) is not None:
            taken.note(key, f"data.packing: {str(bool(on)).lower()}")


def _one(value: Any) -> str:
    names = names_of(value)
    if len(names) != 1:
        raise NoPlace("all adapters but the last are merged first: do that, and give the merged model and the last")
    return names[0]


def _precision(taken: Taken) -> None:
    on = [key for key in ("bf16", "fp16", "pure_bf16") if taken.left.get(key)]
    if on == ["pure_bf16"]:
        taken.drop("pure_bf16", "trained weights are kept in fp32; training.precision: bf16 computes in bf16")
    elif on:
        taken.put(on[0], "training.precision", on[0])
    else:
        taken.assume("bf16", "training.precision", "fp32")
    for key in ("bf16", "fp16", "pure_bf16"):
        taken.left.pop(key, None)


def _batch(taken: Taken, gpus: int) -> None:
    each, often = taken.whole("per_device_train_batch_size", 8), taken.whole("gradient_accumulation_steps", 1)
    for key, field, value, note in (
        ("per_device_train_batch_size", "training.micro_batch_size", each, ""),
        (
            "gradient_accumulation_steps",
            "training.global_batch_size",
            each * often * gpus,
            f"{each} x {often} x {gpus}",
        ),
    ):
        (taken.put if key in taken.left else taken.assume)(key, field, value, note)


def _template(taken: Taken) -> None:
    name = taken.left.get("template")
    if name:
        other = f", or model.chat_template: {name}, where it has none" if name in _TEMPLATES else ""
        taken.drop("template", f"rows are rendered by the model's own chat template{other}")


def _evaluation(taken: Taken) -> None:
    every = taken.left.get("eval_steps")
    if taken.left.get("eval_strategy", taken.left.get("evaluation_strategy")) == "steps" and every:
        taken.simple([Simple("eval_steps", "eval.loss_every", positive)])
        taken.left.pop("eval_strategy", None)
        taken.left.pop("evaluation_strategy", None)
    for key in ("eval_strategy", "evaluation_strategy", "eval_steps"):
        if taken.left.get(key) in (None, "no"):
            taken.left.pop(key, None)
        taken.drop(key, "the validation loss is computed every eval.loss_every steps")


def _logging(taken: Taken) -> None:
    value = taken.left.get("report_to")
    known = ("wandb", "mlflow", "swanlab", "tensorboard")
    names = [name for name in names_of(value or "") if name in known]
    if taken.left.pop("use_swanlab", None):
        names.append("swanlab")
    if names:
        taken.put("report_to", "logging", names)
    elif value in (None, "none", "all", []):
        taken.left.pop("report_to", None)
    else:
        taken.drop("report_to", f"recipes have {', '.join(known)}")
    for key in ("run_name", "swanlab_project", "swanlab_run_name"):
        taken.drop(key, "projects and names are set by the loggers' own variables (WANDB_PROJECT, …)")
