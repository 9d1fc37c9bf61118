"""vLLM on a machine without a GPU, as the rollout engine of a model that changes; loaded there only, as its plugin."""

from __future__ import annotations

from typing import Any


def keep_weights() -> None:
    """Have linear layers keep their weight.

    vLLM 0.24.0 on a CPU packs a layer's weight for oneDNN and frees it (dispatch_cpu_unquantized_gemm in
    vllm/model_executor/layers/utils.py); verl's next weights are then written into an empty tensor. They are packed
    again after each update (process_weights_after_loading).
    """
    from vllm.model_executor.layers import utils

    dispatch = utils.dispatch_cpu_unquantized_gemm

    def dispatch_and_keep(layer: Any, remove_weight: bool) -> None:
        dispatch(layer, remove_weight=False)

    utils.dispatch_cpu_unquantized_gemm = dispatch_and_keep
