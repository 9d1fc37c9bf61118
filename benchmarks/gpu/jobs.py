"""What is trained: shapes of models, trainings, and the ways in which each is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from runner.fit.models import families
from runner.fit.shapes import Shape, shape
from runner.machine.topology import topology

STEPS, WARM, SEED = 20, 5, 42  # a figure is of the steps after WARM
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
    """One training: the shape, the recipe's method and tuning, tokens a row at most, rows and packs a step."""

    shape: str
    method: str
    tuning: dict[str, Any]
    length: int
    rows: int = 8
    packs: int = 0  # none: not packed
    fields: dict[str, Any] = field(default_factory=dict)
    backend: Literal["llamafactory", "verl"] = "llamafactory"

    def variants(self) -> list[str]:
        """`rows` first: its tokenized rows are what the default trains on."""
        packed = ["packed", *(["kept"] if topology().gpus else [])]
        return ["rows", "default", *(packed if self.packs else [])]

    def label(self, variant: str) -> str:
        return LABELS.get(variant) or f"{NAMES[self.backend]}'s defaults"


NAMES = {"llamafactory": "LLaMA-Factory", "verl": "verl"}
LABELS = {
    "default": "",  # by the backend
    "rows": "ours",
    "packed": "ours, packed",
    "kept": "ours, packed, gradient_checkpointing: false",
}
LORA, FULL = {"type": "lora", "rank": 16, "alpha": 32}, {"type": "full"}
JOBS = {
    "sft-lora-8b": Job("meta-llama/Llama-3.1-8B", "sft", LORA, 4096, packs=2),
    "sft-full-0.6b": Job("Qwen/Qwen3-0.6B", "sft", FULL, 8192, packs=2),
    "qlora-8b": Job("meta-llama/Llama-3.1-8B", "sft", {**LORA, "quantization": "4bit"}, 4096, packs=2),
    "dpo-lora-4b": Job("Qwen/Qwen3-4B", "dpo", LORA, 2048, fields={"micro_batch_size": 2}),
    "sft-lora-4b": Job("Qwen/Qwen3-4B", "sft", LORA, 4096, packs=2),
    "verl-sft-lora-8b": Job("meta-llama/Llama-3.1-8B", "sft", LORA, 4096, packs=2, backend="verl"),
    "verl-sft-full-0.6b": Job("Qwen/Qwen3-0.6B", "sft", FULL, 8192, packs=2, backend="verl"),
}
TINY = {
    "sft-lora": Job("tiny", "sft", LORA, 256, packs=2),
    "dpo-lora": Job("tiny", "dpo", LORA, 128),
    "verl-sft-full": Job("tiny", "sft", FULL, 256, packs=2, backend="verl"),
}
