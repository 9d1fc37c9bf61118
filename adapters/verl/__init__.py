"""verl: SFT with LoRA or full training on FSDP2, FSDP and Megatron.

Keys and traps are those of verl 0.9.1; the keys of its configuration are listed in tree.json (made by options.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapters.plan import (
    CPU_ENV,
    Checkpoint,
    Entry,
    Metrics,
    Paths,
    Plan,
    PreparedData,
    Topology,
    launcher,
    precision,
    refusals,
    to_yaml,
    visible_devices,
)
from adapters.verl import config, options, settings
from adapters.verl.checkpoints import whole_checkpoints
from recipes import Problem, Recipe
from recipes.load import LoadedRecipe

NAME = "verl"
_HERE = Path(__file__).parent
LOCKS = {"cpu": _HERE / "requirements.lock", "cuda": _HERE / "requirements.lock"}
NO_DEPS: dict[str, tuple[str, ...]] = {"cpu": (), "cuda": ()}


def ledger(recipe: Recipe, topology: Topology) -> list[Entry]:
    return settings.entries(recipe, topology)


def problems(loaded: LoadedRecipe, topology: Topology) -> list[Problem]:
    recipe, document = loaded.recipe, loaded.document
    if recipe.method != "sft":
        others = (
            "grpo on verl is not there yet"
            if recipe.method == "grpo"
            else f"{recipe.method} {settings.ON_LLAMAFACTORY}"
        )
        return [document.problem(("method",), f"{others}; allowed: sft")]
    found = refusals(ledger(recipe, topology), loaded)
    found += [document.problem(tuple(field.split(".")), text) for field, text in _conflicts(recipe, topology)]
    return [*found, *options.problems(loaded, config.own_keys(recipe, topology))]


def _conflicts(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    """Fields that do not go together, or not with this machine, and what is wrong; verl lets most of them through."""
    yield from _batch(recipe, topology)
    yield from _sequence(recipe, topology)
    yield from _machine(recipe, topology)
    training, name = recipe.training, settings.strategy(recipe)
    if recipe.model.revision:
        yield "model.revision", "verl has no key for it; give the snapshot's directory as model.path"
    if name == "megatron" and recipe.tuning.type == "lora":
        yield "tuning.type", "lora under strategy: megatron is not there yet; use full, or strategy: fsdp2"
    if name == "megatron" and precision(recipe, topology) == "fp32":
        yield "training.precision", "fp32 does not go with strategy: megatron; allowed: bf16, fp16"
    if name == "fsdp" and recipe.tuning.type == "full" and training.weight_decay:
        text = "under strategy: fsdp verl decays norms and biases too, fsdp2 and llamafactory do not; use fsdp2, or 0"
        yield "training.weight_decay", text


def _batch(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    training, groups = recipe.training, settings.data_parallel(recipe, topology)
    spread = recipe.distributed
    if not groups:
        text = f"{topology.world_size} processes do not divide among these parallel sizes"
        yield "distributed.tensor_parallel" if settings.on_megatron(recipe) else "distributed.sequence_parallel", text
        return
    unit = groups * (1 if spread.max_tokens_per_device else training.micro_batch_size)
    batch = training.global_batch_size
    if batch % unit:
        near = " or ".join(str(n) for n in (batch // unit * unit, (batch // unit + 1) * unit) if n)
        micro = "" if spread.max_tokens_per_device else f"micro_batch_size {training.micro_batch_size} x "
        devices = "device" if groups == 1 else "devices"
        yield "training.global_batch_size", f"{batch} does not divide by {micro}{groups} {devices}; nearest: {near}"


def _sequence(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    spread = recipe.distributed
    if spread.sequence_parallel > 1 and not settings.on_megatron(recipe):
        if not spread.remove_padding:
            yield "distributed.sequence_parallel", "needs distributed.remove_padding: true"
        if recipe.model.attention != "flash_attention_2":
            yield "distributed.sequence_parallel", "needs model.attention: flash_attention_2 (and flash-attn installed)"
    if (
        spread.max_tokens_per_device
        and spread.max_tokens_per_device * spread.sequence_parallel < recipe.data.max_length
    ):
        yield (
            "distributed.max_tokens_per_device",
            f"below data.max_length ({recipe.data.max_length}): a row would not fit",
        )


def _machine(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    if topology.gpus:
        return
    name, spread = settings.strategy(recipe), recipe.distributed
    if name != "fsdp2":
        yield "distributed.strategy", f"{name} needs GPUs on verl; on a CPU: fsdp2"
    if recipe.training.precision == "fp16":
        yield "training.precision", "fp16 needs a GPU; allowed on a CPU: auto, fp32, bf16"
    if recipe.model.attention == "flash_attention_2":
        yield "model.attention", "flash_attention_2 needs a GPU; allowed on a CPU: auto, sdpa, eager"
    for leaf in ("offload_parameters", "offload_optimizer"):
        if getattr(spread, leaf):
            yield f"distributed.{leaf}", "there is no GPU to offload from"


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
    python, metrics = str(paths.python), f"backend/metrics-{attempt}.jsonl"
    files = {"backend/train.yaml": to_yaml(config.config(recipe, topology, data, paths, resume))}
    before: tuple[tuple[str, ...], ...] = ()
    until = (str(stop),) if stop else ()
    if recipe.tuning.type == "lora":
        files[settings.LORA_FILE] = json.dumps(config.lora_file(recipe, paths), indent=1) + "\n"
        before = ((python, "-m", "adapters.verl.lora", settings.LORA_FILE, settings.ADAPTER),)
    return Plan(
        backend=NAME,
        argv=(*launcher(python, topology), "-m", "adapters.verl.train", "backend/train.yaml", *until),
        env=_environment(recipe, topology, metrics),
        files=files,
        before=before,
        export=_export(recipe, topology, paths, paths.checkpoints, paths.result),
        metrics=metrics,
        ledger=tuple(settings.entries(recipe, topology, data)),
        notes=tuple(_notes(recipe, topology)),
    )


def _environment(recipe: Recipe, topology: Topology, metrics: str) -> dict[str, str]:
    env = {"VERL_FILE_LOGGER_PATH": metrics, "TOKENIZERS_PARALLELISM": "false", **visible_devices(topology)}
    if "tensorboard" in recipe.logging:
        env["TENSORBOARD_DIR"] = "logs/tensorboard"
    if topology.world_size == 1:  # what torchrun would set; port 0 is any free one
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        env |= alone
    if not topology.gpus:
        env |= {"VERL_USE_EXTERNAL_MODULES": "adapters.verl.cpu", "VERL_ENGINE_DEVICE": "cuda", **CPU_ENV}
    return env


def export(recipe: Recipe, topology: Topology, paths: Paths, target: Path, step: int) -> tuple[str, ...]:
    return _export(recipe, topology, paths, paths.checkpoints / f"global_step_{step}", target)


def _export(recipe: Recipe, topology: Topology, paths: Paths, source: Path, target: Path) -> tuple[str, ...]:
    adapter = ("--adapter", settings.ADAPTER) if recipe.tuning.type == "lora" else ()
    template = ("--chat-template", recipe.model.chat_template) if recipe.model.chat_template else ()
    trust = ("--trust-remote-code",) if recipe.model.trust_remote_code else ()
    places = (str(source), str(target), precision(recipe, topology))
    return (str(paths.python), "-m", "adapters.verl.export", *places, *adapter, *template, *trust)


def _notes(recipe: Recipe, topology: Topology) -> list[str]:
    notes = []
    if not topology.gpus and precision(recipe, topology) == "bf16":
        notes.append("bf16 on a CPU is slow unless it has AMX or AVX512-BF16; training.precision: auto would take fp32")
    elif precision(recipe, topology) != "fp32" and not settings.on_megatron(recipe):
        notes.append(
            "without flash-attn verl computes the loss in 16 bits (three digits of it hold); llamafactory in 32"
        )
    if settings.on_megatron(recipe):
        notes.append("megatron-core, Megatron-Bridge and TransformerEngine are not in verl's lock: use --env current")
    return notes


_NAMES = {
    "train/loss": "loss",
    "val/loss": "eval_loss",
    "train/lr": "learning_rate",
    "train/grad_norm": "grad_norm",
    "train/epoch": "epoch",
    "train/global_tokens": "tokens",
    "train/step_time_s": "step_time_s",
}
_GIB_IN_GB = 1024**3 / 1e9


def read_metrics(line: Mapping[str, Any]) -> Metrics | None:
    values = line.get("data", {})
    found = {
        ours: float(values[theirs]) for theirs, ours in _NAMES.items() if isinstance(values.get(theirs), (int, float))
    }
    if not found.keys() & {"loss", "eval_loss"}:
        return None
    peak = values.get("perf/max_memory_allocated_gb")
    return {"step": line["step"], **found, **({"memory_gb": peak * _GIB_IN_GB} if peak else {})}


def checkpoints(directory: Path) -> list[Checkpoint]:
    return whole_checkpoints(directory)
