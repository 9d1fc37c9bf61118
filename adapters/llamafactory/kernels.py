"""For which models LLaMA-Factory has Liger's kernels."""

from __future__ import annotations

from adapters.contract import Topology
from recipes import Recipe

# The families of LLaMA-Factory 0.9.5's model_utils/liger_kernel.py, by `model_type`, whose kernels Liger itself has.
LIGER = (
    *("gemma", "gemma2", "gemma3", "gemma3_text", "glm4", "glm4v", "granite", "llama", "llava", "mistral", "mixtral"),
    *("mllama", "olmo2", "paligemma", "phi3", "qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next"),
    "qwen3_5",
)


def takes_liger(recipe: Recipe, topology: Topology) -> bool:
    """Whether Liger's kernels are asked for, or the fastest there are; torch.compile cannot trace those of 0.8."""
    training = recipe.training
    return bool(topology.gpus) and training.kernels != "none" and not training.compile
