"""LLaMA-Factory: SFT, DPO, ORPO, SimPO, KTO and reward models with LoRA, QLoRA, frozen layers or full training.

Keys and traps are those of LLaMA-Factory 0.9.5; arguments.json (made by describe.py) lists the options it knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters import lora, native
from adapters.contract import Checkpoint, Metrics, Paths, Plan, PreparedData, Topology
from adapters.ledger import Entry
from adapters.llamafactory import options, settings, sharding, tuning
from adapters.llamafactory.checkpoints import whole_checkpoints
from adapters.llamafactory.keeping import keeping as keeping
from adapters.native import CPU_ENV, batch_problem, launcher, precision, to_yaml, visible_devices
from adapters.refusals import refusals
from recipes import Problem, Recipe, methods
from recipes.load import LoadedRecipe

NAME = "llamafactory"
DISTRIBUTION = "llamafactory"
METHODS: tuple[str, ...] = tuple(settings.STAGE)
TUNINGS: tuple[str, ...] = ("lora", "full", "freeze")
QUANTIZATIONS: tuple[str, ...] = ("4bit", "8bit")
STRATEGIES: tuple[str, ...] = ("ddp", "deepspeed-zero2", "deepspeed-zero3", "fsdp", "fsdp2")
CHECKPOINTS: tuple[str, ...] = ("checkpoint-*",)
ON_HOST = ("adamw", "lion")  # which DeepSpeed has on the CPU too (accelerate's map_pytorch_optim_to_deepspeed)
EIGHT_BIT = ("adamw_8bit", "paged_adamw_8bit", "lion")  # of bitsandbytes
_HERE = Path(__file__).parent
LOCKS: Mapping[str, Path] = {"cpu": _HERE / "requirements.lock", "cuda": _HERE / "requirements-cuda.lock"}
NO_DEPS: Mapping[str, tuple[str, ...]] = {"cpu": (), "cuda": ()}

total_steps = native.total_steps


def ledger(recipe: Recipe, topology: Topology) -> list[Entry]:
    return settings.entries(recipe, topology)


def problems(loaded: LoadedRecipe, topology: Topology) -> list[Problem]:
    recipe, document = loaded.recipe, loaded.document
    found = refusals(ledger(recipe, topology), loaded, topology)
    batch = batch_problem(recipe, topology)
    if batch:
        found.append(document.problem(("training", "global_batch_size"), batch))
    strategy = sharding.strategy(recipe)
    if strategy != "ddp" and not topology.gpus:
        text = f"{strategy} needs GPUs on llamafactory; on a CPU: ddp"
        found.append(document.problem(("distributed", "strategy"), text))
    if recipe.method == "reward" and strategy != "ddp":
        text = f"llamafactory writes no whole checkpoint of a reward model under {strategy}; use ddp"
        found.append(document.problem(("distributed", "strategy"), text))
    if recipe.tuning.quantization == "8bit" and strategy in ("deepspeed-zero3", "fsdp", "fsdp2"):
        found.append(document.problem(("tuning", "quantization"), f"{strategy} takes 4bit only; use 4bit or ddp"))
    if recipe.training.precision == "fp16" and not topology.gpus:
        found.append(
            document.problem(("training", "precision"), "fp16 needs a GPU; allowed on a CPU: auto, fp32, bf16")
        )
    if recipe.model.attention == "flash_attention_2" and not topology.gpus:
        text = "flash_attention_2 needs a GPU; allowed on a CPU: auto, sdpa, eager"
        found.append(document.problem(("model", "attention"), text))
    if recipe.training.kernels == "liger" and not topology.gpus:
        found.append(document.problem(("training", "kernels"), "liger needs a GPU; allowed on a CPU: auto, none"))
    if recipe.training.kernels == "liger" and recipe.training.compile:
        text = "liger cannot be traced by torch.compile; take training.compile out, or set it to auto or none"
        found.append(document.problem(("training", "kernels"), text))
    if recipe.training.optimizer in EIGHT_BIT and not topology.gpus:
        text = f"{recipe.training.optimizer} needs a GPU; allowed on a CPU: adamw, adafactor, muon"
        found.append(document.problem(("training", "optimizer"), text))
    if recipe.training.optimizer == "muon" and recipe.tuning.lora_plus_ratio:
        text = "with tuning.lora_plus_ratio llamafactory takes adamw in the place of muon; keep one of them"
        found.append(document.problem(("training", "optimizer"), text))
    if recipe.training.group_by_length and methods.METHODS[recipe.method].rows.pair:
        text = "a pair has two lengths, and LLaMA-Factory's sampler looks for one; take it out"
        found.append(document.problem(("training", "group_by_length"), text))
    optimizer = recipe.training.optimizer
    if optimizer == "muon" and strategy != "ddp":
        text = f"llamafactory's muon tells matrices by what {strategy} has made of them; use adamw, or ddp"
        found.append(document.problem(("training", "optimizer"), text))
    if recipe.distributed.offload_optimizer and strategy.startswith("deepspeed") and optimizer not in ON_HOST:
        text = f"DeepSpeed puts its own Adam in the place of {optimizer} there; allowed with it: {', '.join(ON_HOST)}"
        found.append(document.problem(("distributed", "offload_optimizer"), text))
    if recipe.tuning.lora_plus_ratio and strategy == "fsdp":
        text = "under fsdp llamafactory trains both halves of an adapter at the raised rate; use fsdp2 or ddp"
        found.append(document.problem(("tuning", "lora_plus_ratio"), text))
    if recipe.method == "dpo" and recipe.preference.label_smoothing and recipe.preference.loss != "sigmoid":
        text = f"belongs to preference.loss: sigmoid, and the loss is {recipe.preference.loss}; take it out"
        found.append(document.problem(("preference", "label_smoothing"), text))
    if recipe.data.packing and recipe.model.attention == "flash_attention_2" and recipe.training.micro_batch_size > 1:
        text = "must be 1 with data.packing and flash_attention_2 on llamafactory; raise data.max_length instead"
        found.append(document.problem(("training", "micro_batch_size"), text))
    return [*found, *options.problems(loaded, settings.own_keys(recipe, topology))]


def plan(
    recipe: Recipe,
    topology: Topology,
    data: PreparedData,
    paths: Paths,
    *,
    attempt: int = 1,
    resume: Checkpoint | None = None,
    stop: int | None = None,
) -> Plan:
    config = settings.config(recipe, topology, paths, resume)
    metrics = f"backend/metrics-{attempt}.jsonl"
    files = {"backend/train.yaml": to_yaml(config)}
    if "deepspeed" in config:
        files["backend/deepspeed.json"] = json.dumps(sharding.deepspeed(recipe, topology), indent=1) + "\n"
    before: tuple[tuple[str, ...], ...] = ()
    if tuning.own_adapter(recipe):
        files |= lora.files(recipe, topology, paths)
        before = (lora.command(recipe, paths),)
    options = [
        *(["--stop", str(stop)] if stop else []),
        *(["--tokenizer", str(paths.tokenizer)] if recipe.model.tokenizer or recipe.model.add_tokens else []),
        *(["--need-liger"] if recipe.training.kernels == "liger" else []),
    ]
    script = ("-m", "adapters.llamafactory.train", *options, "backend/train.yaml", metrics)
    return Plan(
        backend=NAME,
        # DeepSpeed and FSDP want a process group, of one process too.
        argv=(*launcher(str(paths.python), topology, sharded=sharding.strategy(recipe) != "ddp"), *script),
        env=_environment(topology) | sharding.environment(recipe),
        files=files,
        before=before,
        export=export_command(recipe, topology, paths, paths.result, None),
        metrics=metrics,
        ledger=tuple(ledger(recipe, topology)),
        notes=tuple(_notes(recipe, topology)),
    )


def export_command(recipe: Recipe, topology: Topology, paths: Paths, target: Path, step: int | None) -> tuple[str, ...]:
    source = paths.checkpoints if step is None else paths.checkpoints / f"checkpoint-{step}"
    template = [recipe.model.chat_template] if recipe.model.chat_template else []
    initial = ["--initial", lora.ADAPTER] if lora.on_residual(recipe) else []
    places = (str(source), str(target), str(paths.accounting))
    return (str(paths.python), "-m", "adapters.llamafactory.export", *places, *template, *initial)


def _environment(topology: Topology) -> dict[str, str]:
    # The packages are locked: LLaMA-Factory's own version check would only cost time.
    env = {"DISABLE_VERSION_CHECK": "1", "TOKENIZERS_PARALLELISM": "false", **visible_devices(topology)}
    if not topology.gpus:
        env |= CPU_ENV
    return env


def _notes(recipe: Recipe, topology: Topology) -> list[str]:
    notes = []
    if not topology.gpus and precision(recipe, topology) == "bf16":
        notes.append("bf16 on a CPU is very slow (minutes a step); training.precision: auto would take fp32")
    if recipe.model.attention == "flash_attention_2":
        notes.append("flash_attention_2 needs flash-attn over the lock: recipe setup llamafactory --with flash-attn")
    if recipe.method in ("dpo", "kto") and recipe.model.adapter_path:
        notes.append("the reference model is the base with model.adapter_path, as it is now: a second model in memory")
    if recipe.method in ("dpo", "kto") and recipe.tuning.type != "lora":
        held = f"{recipe.method} with {recipe.tuning.type} training holds the model twice"
        notes.append(f"{held}: the second copy is the reference model")
    if recipe.method in ("dpo", "kto") and recipe.tuning.dropout:
        notes.append(f"{recipe.method} switches dropout off while training (TRL does, so that both log-ratios agree)")
    if lora.on_residual(recipe):
        notes.append(
            f"tuning.init: {recipe.tuning.init} keeps a copy of the base, less what the adapter begins with, under "
            f"{lora.RESIDUAL}; model/ is an adapter of the base itself, of rank {2 * recipe.tuning.rank}"
        )
    return notes


_NAMES = {
    "loss": "loss",
    "eval_loss": "eval_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "epoch": "epoch",
    "step_time_s": "step_time_s",
    "tokens": "tokens",
    "memory_gb": "memory_gb",
    "rewards/chosen": "rewards/chosen",
    "rewards/rejected": "rewards/rejected",
    "rewards/accuracies": "rewards/accuracies",
    "rewards/margins": "rewards/margins",
    "eval_accuracy": "eval_rewards/accuracies",  # of a reward model
    "logps/chosen": "logps/chosen",
    "logps/rejected": "logps/rejected",
    "sft_loss": "sft_loss",
    "odds_ratio_loss": "odds_ratio_loss",
    "kl": "kl",
}


def read_metrics(line: Mapping[str, Any]) -> Metrics | None:
    if "step" not in line:
        return None
    found = {ours: float(line[theirs]) for theirs, ours in _NAMES.items() if isinstance(line.get(theirs), (int, float))}
    for name, value in line.items():
        if name.startswith("eval_rewards/") and isinstance(value, (int, float)):
            found[name] = float(value)
    if not found.keys() & {"loss", "eval_loss"}:
        return None
    return {"step": line["step"], **found}


def checkpoints(directory: Path) -> list[Checkpoint]:
    return whole_checkpoints(directory)


def fixed_world(recipe: Recipe) -> bool:
    """DeepSpeed keeps the states of each process apart; the Trainer's other checkpoints are whole."""
    return sharding.strategy(recipe).startswith("deepspeed")


def forget_later(directory: Path, step: int) -> None:
    """Nothing to do: each checkpoint of the Trainer's tells of itself and of no other."""
