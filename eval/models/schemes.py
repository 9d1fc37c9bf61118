"""The schemes that a model is exported in: what each stores, what it needs, and how much perplexity it may cost."""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = (128, 64, 32)  # inputs that share a scale: the sizes that vLLM's 4-bit kernels have, the cheapest first


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One scheme of `recipe export`.

    text: for people. margin: the share by which perplexity may rise, where nothing else is asked for.
    calibrated: whether it looks at rows. grouped: whether the inputs of a layer are cut into groups.
    """

    text: str
    margin: float
    calibrated: bool = False
    grouped: bool = False


SCHEMES = {
    "hf": Scheme(text="whole weights, not quantized", margin=0.005),
    "fp8": Scheme(text="8-bit floats for weights and activations (W8A8, E4M3)", margin=0.02),
    "int8": Scheme(
        text="8-bit integers for weights and activations (W8A8), by SmoothQuant", margin=0.02, calibrated=True
    ),
    "gptq": Scheme(text="4-bit integer weights (W4A16), by GPTQ", margin=0.05, calibrated=True, grouped=True),
    "awq": Scheme(
        text="4-bit integer weights with a zero point (W4A16), by AWQ", margin=0.05, calibrated=True, grouped=True
    ),
}
