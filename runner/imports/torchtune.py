"""torchtune's YAML (recipes of lora and full finetuning) as a recipe for LLaMA-Factory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.imports.taken import Entry, Simple, Taken, choice, number, positive

_SIMPLE = (
    Simple("epochs", "training.epochs", number, default=1),
    Simple("batch_size", "training.micro_batch_size", default=2),
    Simple("seed", "training.seed"),
    Simple("compile", "training.compile"),
    Simple("enable_activation_checkpointing", "training.gradient_checkpointing", default=False),
    Simple("log_every_n_steps", "training.log_every", positive),
    Simple("clip_grad_norm", "training.max_grad_norm", number),
    Simple("dtype", "training.precision", choice({"bf16": "bf16", "fp16": "fp16", "fp32": "fp32"}, "use bf16"), "bf16"),
)
_NOWHERE = (
    ("runs lie in runs/NAME: `recipe run --runs-dir DIR --name NAME`", "output_dir"),
    ("rows are shuffled by training.seed", "shuffle"),
    ("`recipe resume RUN` goes on with a run", "resume_from_checkpoint save_adapter_weights_only"),
    ("the device is what the machine has; N_GPUS says how many", "device"),
    ("every run's metrics.jsonl and report have them", "log_peak_memory_stats log_level"),
    ("the loss is cross entropy; Liger's fused one by training.kernels", "loss"),
    ("use native profilers by backend_options", "profiler"),
    (
        "use the recipe's distributed",
        "tensor_parallel_plan data_parallel_shard_dim fsdp_cpu_offload",
    ),
    ("activations are checkpointed, or stay", "enable_activation_offloading"),
    ("the optimizer steps once a batch", "optimizer_in_bwd"),
    ("checkpoints are the runner's; `recipe merge` makes a whole model", "ckpt safe_serialization"),
)
_BELOW = {
    "checkpointer": "model.path is a directory of Hugging Face's files, which say what they are",
    "dataset": "see docs/data.md for what a source has",
    "dataset.conversation_column": "name it in data.train[0].columns",
    "dataset.column_map": "name them in data.train[0].columns",
    "model.apply_lora_to_output": "name lm_head among tuning.target_modules",
    "optimizer.fused": "the optimizer is fused where torch has it so",
    "lr_scheduler": "cosine goes to 0 in half a cycle",
}
_FORMATS = {
    "alpaca_dataset": "alpaca", "alpaca_cleaned_dataset": "alpaca", "chat_dataset": "messages",
    "instruct_dataset": "alpaca", "text_completion_dataset": "text", "preference_dataset": "preference",
    "stack_exchange_paired_dataset": "preference", "grammar_dataset": "alpaca", "samsum_dataset": "alpaca",
}  # fmt: skip
_HUB = {"alpaca_dataset": "tatsu-lab/alpaca", "alpaca_cleaned_dataset": "yahma/alpaca-cleaned"}


def read(given: Mapping[str, Any], directory: Path, gpus: int) -> Taken:
    """Args:
    given: the keys of the YAML. directory: where it lies. gpus: of all nodes.
    """
    taken = Taken(given)
    taken.recipe["backend"] = "llamafactory"
    component, loss, dataset = (_component(taken, key) for key in ("model", "loss", "dataset"))
    _method(taken, loss, dataset)
    gpus = taken.replicas(gpus, "tensor_parallel_dim context_parallel_dim")
    micro, often = taken.whole("batch_size", 2), taken.whole("gradient_accumulation_steps", 1)
    if taken.left.get("clip_grad_norm") is None:
        taken.left["clip_grad_norm"] = None
        taken.drop("clip_grad_norm", "recipes scale gradients above 1.0; a large training.max_grad_norm never does")
    taken.simple(_SIMPLE)
    taken.put(
        "gradient_accumulation_steps", "training.global_batch_size", micro * often * gpus, f"{micro} x {often} x {gpus}"
    )
    if given.get("max_steps_per_epoch"):
        taken.drop("max_steps_per_epoch", "training.max_steps counts those of the whole training")
    taken.left.pop("max_steps_per_epoch", None)
    _model(taken, component)
    _optimizer(taken)
    _data(taken)
    metric = _component(taken, "metric_logger")
    if "wandb" in metric.lower():
        taken.put("metric_logger", "logging", ["wandb"])
    elif "TensorBoard" in metric:
        taken.put("metric_logger", "logging", ["tensorboard"])
    else:
        taken.drop("metric_logger", "every run writes metrics.jsonl")
    taken.drop_all(_NOWHERE)
    taken.drop_unread(_BELOW)
    return taken


def _method(taken: Taken, loss: str, dataset: str) -> None:
    kind, preference = loss.rpartition(".")[2].lower(), "preference" in dataset or "paired" in dataset
    method = next((name for name in ("dpo", "simpo") if name in kind), "dpo" if preference else "sft")
    if "text_completion" in dataset:
        method = "pretrain"
    given = taken.mapping("loss")
    if method not in kind:
        taken.assume("loss", "method", method)
        if preference:
            taken.drop("loss", "recipes have the losses of DPO and SimPO")
        return
    taken.put("loss", "method", method)
    for key in ("beta", "gamma", "label_smoothing"):
        if given.get(key) is not None:
            taken.also(f"loss.{key}", f"preference.{key}", number(given[key]))
    if method == "simpo":  # torchtune's defaults
        for key, value in (("beta", 2.0), ("gamma", 0.5)):
            if given.get(key) is None:
                taken.assume(f"loss.{key}", f"preference.{key}", value)


def _component(taken: Taken, key: str) -> str:
    return str(taken.mapping(key).get("_component_", ""))


def _model(taken: Taken, component: str) -> None:
    model = taken.mapping("model")
    checkpointer = taken.mapping("checkpointer")
    path = checkpointer.get("checkpoint_dir")
    if path:
        taken.put("checkpointer", "model.path", str(path), "its directory must hold Hugging Face's files")
    taken.drop("checkpointer", "it names no checkpoint_dir: give model.path")
    kind = component.rpartition(".")[2]
    adapter = "lora" in kind or "lora_rank" in model
    taken.put("model", "tuning.type", "lora" if adapter else "full")
    if adapter:
        taken.also("model.lora_rank", "tuning.rank", model.get("lora_rank", 8))
        taken.also("model.lora_alpha", "tuning.alpha", model.get("lora_alpha", 16))
        if model.get("lora_dropout"):
            taken.also("model.lora_dropout", "tuning.dropout", model["lora_dropout"])
        if model.get("use_dora"):
            taken.also("model.use_dora", "tuning.dora", True)
        if kind.startswith("qlora") or model.get("quantize_base"):
            taken.also("model", "tuning.quantization", "4bit", "a quantized base")
        targets = list(model.get("lora_attn_modules") or [])
        if targets:
            targets = ["o_proj" if name == "output_proj" else name for name in targets]
            targets += ["gate_proj", "up_proj", "down_proj"] if model.get("apply_lora_to_mlp") else []
            taken.also("model.lora_attn_modules", "tuning.target_modules", targets)


def _optimizer(taken: Taken) -> None:
    optimizer = taken.mapping("optimizer")
    name = str(optimizer.get("_component_", "")).rpartition(".")[2]
    ours = {"AdamW": "adamw", "AdamW8bit": "adamw_8bit", "PagedAdamW8bit": "paged_adamw_8bit", "Adafactor": "adafactor"}
    if name in ours:
        taken.put("optimizer", "training.optimizer", ours[name])
    else:
        taken.drop("optimizer", f"recipes have no {name}; use adamw")
    if "lr" in optimizer:
        taken.also("optimizer.lr", "training.learning_rate", number(optimizer["lr"]))
    if optimizer.get("weight_decay") is not None:
        taken.also("optimizer.weight_decay", "training.weight_decay", number(optimizer["weight_decay"]))
    elif name in ours and name != "Adafactor":
        taken.assume("optimizer.weight_decay", "training.weight_decay", 0.01, "PyTorch's and bitsandbytes' own")
    if "betas" in optimizer:
        taken.also("optimizer.betas", "training.betas", list(optimizer["betas"]))
    if "eps" in optimizer:
        taken.also("optimizer.eps", "training.optimizer_options.eps", number(optimizer["eps"]))
    scheduler = taken.mapping("lr_scheduler")
    if scheduler:
        kind = str(scheduler.get("_component_", "")).rpartition(".")[2]
        if "cosine" in kind:
            taken.put("lr_scheduler", "training.scheduler", "cosine")
        else:
            taken.drop("lr_scheduler", f"recipes have no {kind}; use training.scheduler: cosine, linear or constant")
        if scheduler.get("num_warmup_steps"):
            taken.also("lr_scheduler.num_warmup_steps", "training.warmup_steps", scheduler["num_warmup_steps"])
    else:
        taken.assume("lr_scheduler", "training.scheduler", "constant")


def _data(taken: Taken) -> None:
    dataset = taken.mapping("dataset")
    kind = str(dataset.get("_component_", "")).rpartition(".")[2]
    named = dataset.get("source") or _HUB.get(kind)
    path = dataset.get("data_files") or named
    source: dict[str, Any] = {"path": path} if path else {}
    if kind in _FORMATS:
        source["format"] = _FORMATS[kind]
    if dataset.get("conversation_style") == "sharegpt":
        source["format"] = "conversations"
    if kind == "text_completion_dataset" and dataset.get("column", "text") != "text":
        source["columns"] = {"text": dataset["column"]}
    if dataset.get("train_on_input", kind.startswith("alpaca")) and "masking_strategy" not in dataset:
        why = "torchtune trains on the prompts of this data set too; recipes train on replies only"
        taken.entries.append(Entry("dataset.train_on_input", True, "no place", why))
    if dataset.get("split"):
        source["split"] = dataset["split"]
    taken.put("dataset", "data.train", [source])
    if dataset.get("packed"):
        taken.also("dataset.packed", "data.packing", True)
    length = taken.mapping("tokenizer").get("max_seq_len")
    taken.drop("tokenizer", "rows are tokenized by the model's own; its max_seq_len is data.max_length")
    if length:
        taken.also("tokenizer.max_seq_len", "data.max_length", length)
        if taken.recipe["method"] != "pretrain":
            taken.assume("tokenizer.max_seq_len", "data.overlong", "truncate", "torchtune cuts longer rows")
    elif taken.recipe["method"] != "pretrain":
        taken.assume("tokenizer.max_seq_len", "data.overlong", "error", "torchtune cuts nothing: say data.max_length")
