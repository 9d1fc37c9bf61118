"""For which models LLaMA-Factory has Liger's kernels."""

from __future__ import annotations

# The families of LLaMA-Factory 0.9.5's model_utils/liger_kernel.py, by `model_type`, whose kernels Liger itself has.
LIGER = (
    *("gemma", "gemma2", "gemma3", "gemma3_text", "glm4", "glm4v", "granite", "llama", "llava", "mistral", "mixtral"),
    *("mllama", "olmo2", "paligemma", "phi3", "qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next"),
    "qwen3_5",
)
