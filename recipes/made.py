"""The recipes of the catalogue that are made, not written: models x kinds of training x machines, by recipes/tables.py.

Which of them there are, with which batch and how much memory and time, is in made.json: `python -m
benchmarks.catalogue` writes it by the estimate of `recipe fit`, and a test holds the two equal. A recipe's name says
what it is: `qwen3_8b_dpo_qlora_24gb` is the model, the method, the tuning and the machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recipes.methods import METHODS
from recipes.tables import ASKING, DATA, KINDS, MACHINES, MODELS, TUNING_WORDS, Kind, Machine

TABLE = Path(__file__).with_name("made.json")
WORDS = {"reward": "A reward model"}  # of a method; others are abbreviations
SUITES = {"sft": "perplexity, generation", "kto": "perplexity, generation", "reward": "preference"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a recipe has for its machine, and what the estimate says of it.

    tensor_parallel: GPUs that share the model while it makes rollouts.
    max_length: tokens of the longest rows, where those of the data set's own table are too many.
    swaps: whether it fits on the other backend too.
    needed: GB that each card must have; hours: at most, on all GPUs together; None: not known.
    """

    micro_batch_size: int
    strategy: str = "auto"
    tensor_parallel: int = 1
    max_length: int | None = None
    swaps: bool = False
    needed: float = 0.0
    hours: float | None = None


@cache
def made() -> Mapping[str, Settings]:
    """The recipes that are made, by name, in the order of the tables."""
    return {name: Settings(**row) for name, row in json.loads(TABLE.read_text(encoding="utf-8")).items()}


def of_each_kind() -> list[str]:
    """The first name of each kind of training."""
    first: dict[Kind, str] = {}
    for name in made():
        first.setdefault(parts(name)[1], name)
    return list(first.values())


def parts(name: str) -> tuple[str, Kind, Machine]:
    """The model's short name, the kind and the machine that a name stands for."""
    model, method, tuning, machine = name.rsplit("_", 3)
    return model, KINDS[f"{method}_{tuning}"], MACHINES[machine]


def thinks(model: str) -> bool:
    """Whether a model, by its short name, is one that thinks in all its replies."""
    return model.startswith("r1_")


def description(name: str) -> str:
    model, kind, machine = parts(name)
    hub = MODELS[model].rpartition("/")[2]
    what = WORDS.get(kind.method, kind.method.upper())
    return f"{what} of {hub} with {TUNING_WORDS[kind.tuning]}, for {machine.words}"


def text(name: str, settings: Settings | None = None) -> str:
    """The YAML of a recipe; `settings`: others than those of made.json.

    Raises:
        KeyError: none of this name is made.
    """
    one = settings or made()[name]
    model, kind, machine = parts(name)
    data = kind.thinking if thinks(model) and kind.thinking else kind.data
    hub = MODELS[model]
    sections = (
        "# yaml-language-server: $schema=recipe.schema.json",
        *_estimate(name, one, machine),
        *_to_do(name, hub, machine),
        f"description: {description(name)}",
        f"backend: {kind.backend}" + ("  # or verl: the one field to edit" if one.swaps else ""),
        f"method: {kind.method}",
        "model:",
        f"  path: {hub}",
        *_model(model, kind),
        "tuning:",
        *_tuning(kind),
        "data:",
        *_data(data, one),
        "training:",
        *_training(kind, machine, one),
        *_distributed(kind, one),
        *(_rewards(model, one) if kind.method == "grpo" else ()),
        "checkpoint:",
        f"  every: {20 if kind.method == 'grpo' else 200}",
        "  keep: 3",
        "eval:",
        *_eval(kind),
    )
    return "\n".join(sections) + "\n"


def _data(name: str, one: Settings) -> list[str]:
    text = DATA[name].rstrip("\n")
    if one.max_length is None:
        return [text]
    return [re.sub("max_length:.*", f"max_length: {one.max_length}  # longer rows are left out, and counted", text)]


def _estimate(name: str, one: Settings, machine: Machine) -> list[str]:
    ask = f"recipe fit {name} --gpu {machine.card}" + (f" --gpus {machine.all}" if machine.all > 1 else "")
    time = "how long it takes depends on its replies"
    if one.hours is not None:
        long = f"{one.hours:g} hours" if one.hours >= 1 else f"{60 * one.hours:.0f} minutes"
        time = f"{long} on {machine.card}, were every row as long as may be"
    return [
        f"# For {machine.words}: needs {one.needed:g} GB{' of each' if machine.all > 1 else ''}; {time}.",
        f"# That is an estimate, and the time half to twice right: {ask}",
    ]


def _to_do(name: str, hub: str, machine: Machine) -> list[str]:
    lines = []
    if machine.nodes > 1:
        lines += [
            f"# Start it on each of the {machine.nodes} nodes, NODE_RANK counting up, and --runs-dir on a disk of all:",
            f"#   NNODES={machine.nodes} NODE_RANK=0 MASTER_ADDR=10.0.0.1 recipe run {name} --runs-dir /shared/runs",
        ]
    if hub.partition("/")[0] in ASKING:
        lines.append(f"# Accept the licence on https://huggingface.co/{hub} first, and set HF_TOKEN.")
    return lines


def _model(model: str, kind: Kind) -> list[str]:
    if model.startswith("qwen3_"):
        return ["  chat_template_kwargs:", "    enable_thinking: false"]
    if thinks(model) and kind.thinking == "thoughts":
        return ["  chat_template: deepseek  # the model's own takes the thinking out of every reply"]
    return []


def _tuning(kind: Kind) -> list[str]:
    if kind.tuning == "full":
        return ["  type: full"]
    bits = ["  quantization: 4bit"] if kind.tuning == "qlora" else []
    return ["  type: lora", "  rank: 16", "  alpha: 32", *bits]


def _training(kind: Kind, machine: Machine, one: Settings) -> list[str]:
    rate = METHODS[kind.method].learning_rate["full" if kind.tuning == "full" else "lora"]
    rewards = METHODS[kind.method].rewards
    return [
        "  epochs: 1",
        f"  global_batch_size: {machine.batch}" + ("  # prompts a step" if rewards else ""),
        f"  micro_batch_size: {one.micro_batch_size}" + ("  # replies a forward pass on one GPU" if rewards else ""),
        f"  learning_rate: {_number(rate)}",
        f"  scheduler: {'constant' if rewards else 'cosine'}",
        "  warmup_ratio: 0.05",
        "  precision: bf16",
    ]


def _number(value: float) -> str:
    digits, _, power = f"{value:e}".partition("e")
    return f"{float(digits)}e{int(power)}"


def _distributed(kind: Kind, one: Settings) -> list[str]:
    lines = [] if one.strategy == "auto" else [f"  strategy: {one.strategy}"]
    if kind.method == "grpo":  # the GPUs are vLLM's while it makes the rollouts
        lines += ["  offload_parameters: true  # the GPUs are vLLM's while it makes the rollouts"]
        lines += ["  offload_optimizer: true"]
    return ["distributed:", *lines] if lines else []


def _rewards(model: str, one: Settings) -> list[str]:
    parallel = [f"    tensor_parallel: {one.tensor_parallel}"] if one.tensor_parallel > 1 else []
    return [
        "grpo:",
        "  rollouts:",
        "    n: 8  # replies a prompt",
        "    max_prompt_length: 512",
        f"    max_reply_length: {4096 if thinks(model) else 1024}",
        *parallel,
        "    gpu_memory_utilization: 0.5",
        "  rewards:",
        "    - type: number  # the right number",
        "    - type: regex  # where it was asked for",
        "      pattern: '####\\s*-?[\\d,.]+\\s*$'",
        "      weight: 0.1",
    ]


def _eval(kind: Kind) -> list[str]:
    if kind.method == "grpo":
        return ["  loss_every: 20"]
    return ["  loss_every: 200", f"  suites: [{SUITES.get(kind.method, 'preference, generation')}]"]
