"""What is trained: shapes of models, trainings, and the ways in which each is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from runner.fit.models import families
from runner.fit.shapes import Shape, shape
from runner.machine.topology import topology

STEPS, FEW, WARM, SEED = 20, 4, 5, 42  # a figure is of the steps after WARM
SHAPES = {
    **{name: shape(families()[name], name) for name in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "meta-llama/Llama-3.1-8B")},
    "tiny": Shape(
        family="qwen3",
        hidden=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        intermediate=96,
        vocabulary=2048,
        tied=True,
    ),
}


@dataclass(frozen=True)
class Job:
    """One training: the shape, the recipe's method and tuning, tokens a row at most, rows and packs a step.

    fields: other fields of the recipe, by section; ways: in place of all that the machine can, by WAYS or DEFAULTS.
    """

    shape: str
    method: str
    tuning: dict[str, Any]
    length: int
    rows: int = 8
    packs: int = 0  # none: not packed
    fields: dict[str, Any] = field(default_factory=dict)
    backend: Literal["llamafactory", "verl"] = "llamafactory"
    ways: tuple[str, ...] = ()

    def variants(self) -> list[str]:
        """Each default after that on whose rows it trains."""
        packed = ["packed", *(["kept"] if topology().gpus else [])]
        return list(self.ways) or ["rows", "default", *(packed if self.packs else [])]

    def label(self, variant: str) -> str:
        whose = f"{NAMES[self.backend]}'s defaults" if variant in DEFAULTS else "ours"
        return ", ".join([whose, *_said(WAYS[DEFAULTS.get(variant, variant)])])


def _said(fields: dict[str, Any]) -> list[str]:
    """Each field by its own name; packing in a word."""
    flat = {name: value for section in fields.values() for name, value in section.items()}
    return ["packed" if name == "packing" else f"`{name}: {str(value).lower()}`" for name, value in flat.items()]


NAMES = {"llamafactory": "LLaMA-Factory", "verl": "verl"}
PACKED: dict[str, Any] = {"data": {"packing": True}}
# Fields of the recipe, by section.
WAYS: dict[str, dict[str, Any]] = {
    "rows": {},
    "packed": PACKED,
    "plain": PACKED | {"training": {"kernels": "none"}},
    "kept": PACKED | {"training": {"gradient_checkpointing": False}},
    "auto": {"training": {"micro_batch_size": "auto"}},
    "zero3": PACKED | {"distributed": {"strategy": "deepspeed-zero3"}},
    "fsdp": PACKED | {"distributed": {"strategy": "fsdp"}},
    "fsdp2": PACKED | {"distributed": {"strategy": "fsdp2"}},
}
# The backend's own command line, by the way on whose tokenized rows it trains.
DEFAULTS = {"default": "rows", "default-packed": "packed"}
ON_VERL = ("rows", "default", "packed", "default-packed", "plain")
LORA, FULL = {"type": "lora", "rank": 16, "alpha": 32}, {"type": "full"}
JOBS = {
    "sft-lora-8b": Job("meta-llama/Llama-3.1-8B", "sft", LORA, 4096, packs=2),
    "sft-full-0.6b": Job("Qwen/Qwen3-0.6B", "sft", FULL, 8192, packs=2),
    "qlora-8b": Job("meta-llama/Llama-3.1-8B", "sft", {**LORA, "quantization": "4bit"}, 4096, packs=2),
    "dpo-lora-4b": Job("Qwen/Qwen3-4B", "dpo", LORA, 2048, fields={"training": {"micro_batch_size": 2}}),
    "sft-lora-4b": Job("Qwen/Qwen3-4B", "sft", LORA, 4096, packs=2),
    "spread-full-0.6b": Job("Qwen/Qwen3-0.6B", "sft", FULL, 8192, packs=2, ways=("zero3", "fsdp", "fsdp2")),
    "auto-lora-0.6b": Job("Qwen/Qwen3-0.6B", "sft", LORA, 4096, ways=("auto",)),
    "verl-sft-lora-8b": Job("meta-llama/Llama-3.1-8B", "sft", LORA, 4096, packs=2, backend="verl", ways=ON_VERL[:4]),
    "verl-sft-full-0.6b": Job("Qwen/Qwen3-0.6B", "sft", FULL, 8192, packs=2, backend="verl", ways=ON_VERL),
}
TINY = {
    "sft-lora": Job("tiny", "sft", LORA, 256, packs=2),
    "dpo-lora": Job("tiny", "dpo", LORA, 128),
    "verl-sft-full": Job("tiny", "sft", FULL, 256, packs=2, backend="verl", ways=ON_VERL[:4]),
}
