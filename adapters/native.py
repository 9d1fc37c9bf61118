"""What every backend's plan needs: batches, precision, devices, the launcher, config files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adapters.contract import Topology
from recipes import Recipe
from recipes.typed import from_json

Config = dict[str, Any]  # a part of a backend's own configuration, by its own keys

# Threads that spin while they wait stall each other where cores are shared: 43 s a step became 9 s on two busy cores.
CPU_ENV = {"OMP_WAIT_POLICY": "PASSIVE"}
# The families of LLaMA-Factory 0.9.5's model_utils/liger_kernel.py, by `model_type`, whose kernels Liger itself has.
LIGER = (
    *("gemma", "gemma2", "gemma3", "gemma3_text", "glm4", "glm4v", "granite", "llama", "llava", "mistral", "mixtral"),
    *("mllama", "olmo2", "paligemma", "phi3", "qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next"),
    "qwen3_5",
)


# Of a native key that changes the model itself.
NOT_KEPT = (
    "the adapter does not keep it, and scoring, merging and serving load the base without; use tuning.type: full, or a "
    "model whose own config.json says so"
)


@dataclass(frozen=True)
class Beside:
    """Native keys that act beside something else only.

    keys: a pattern of whole keys. other: what turns them on, in the user's words. on: whether a recipe has it, by the
    recipe and its native keys, dotted.
    """

    keys: str
    other: str
    on: Callable[[Recipe, Mapping[str, Any]], object]


def beside(keys: str, switch: str) -> Beside:
    """Of keys that another native key turns on."""
    return Beside(keys, f"{switch}: true", lambda _, options: options.get(switch))


def alone(key: str, recipe: Recipe, options: Mapping[str, Any], rules: Iterable[Beside]) -> str | None:
    """That a key would act beside something which the recipe does not have; None where it has, or none is needed."""
    needed = (one for one in rules if re.fullmatch(one.keys, key))
    missing = next((one.other for one in needed if not one.on(recipe, options)), None)
    return f"acts beside {missing} only, which this recipe does not have" if missing else None


def batch_problem(recipe: Recipe, topology: Topology) -> str | None:
    """Why the global batch size cannot be made of micro batches here, with the nearest that can; else None."""
    batch, unit = recipe.training.global_batch_size, recipe.training.micro_batch_size * topology.world_size
    if batch % unit == 0:
        return None
    near = [n for n in (batch // unit * unit, (batch // unit + 1) * unit) if n]
    return (
        f"{batch} does not divide by micro_batch_size {recipe.training.micro_batch_size} x {topology.world_size} "
        f"process{'es' if topology.world_size > 1 else ''}; nearest: {' or '.join(map(str, near))}"
    )


def gradient_accumulation(recipe: Recipe, topology: Topology) -> int:
    """Micro batches per optimizer step on one device; by tokens, of rows that are all as long as the longest."""
    return math.ceil(recipe.training.global_batch_size / (recipe.training.micro_batch_size * topology.world_size))


def precision(recipe: Recipe, topology: Topology) -> Literal["bf16", "fp16", "fp32"]:
    """The compute precision: what the recipe says, or for `auto` bf16 on GPUs and fp32 on a CPU."""
    asked = recipe.training.precision
    return ("bf16" if topology.gpus else "fp32") if asked == "auto" else asked


def total_steps(line: Mapping[str, Any]) -> int | None:
    """Of the line that our own entry points write when a training begins."""
    return int(line["total_steps"]) if line.get("event") == "begin" else None


def visible_devices(topology: Topology) -> dict[str, str]:
    """The variable that shows a run its GPUs and no others."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(topology.devices)} if topology.devices else {}


def to_yaml(config: Mapping[str, Any]) -> str:
    """A config file's text."""
    import yaml

    # safe_dump quotes what YAML 1.1 would misread ('no'), and writes 5e-05 as 5.0e-05, which PyYAML reads as a number.
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=1000)


def launcher(python: str, topology: Topology, *, sharded: bool = False) -> tuple[str, ...]:
    """The interpreter, under torchrun where the run has more than one process, or shards even on one."""
    if topology.world_size == 1 and not sharded:
        return (python,)
    # One node takes any free port: two runs on a machine would fight over a fixed one.
    meeting = (
        ("--standalone",)
        if topology.nodes == 1
        else (
            f"--nnodes={topology.nodes}",
            f"--node_rank={topology.node_rank}",
            f"--master_addr={topology.master_addr}",
            f"--master_port={topology.master_port}",
        )
    )
    return (python, "-m", "torch.distributed.run", *meeting, f"--nproc_per_node={topology.processes}")


@dataclass(frozen=True, kw_only=True)
class NativeKey:
    """What a backend's own parser says of one of its keys: names of JSON-like types (none: any), choices, default."""

    types: tuple[str, ...] = ()
    choices: tuple[Any, ...] = ()
    default: Any = None


def native_keys(described: Mapping[str, Any]) -> dict[str, NativeKey]:
    """The keys of a file that a describe.py wrote."""
    return {name: from_json(NativeKey, leaf, name) for name, leaf in described.items()}
