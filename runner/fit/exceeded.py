"""What an error of GPU memory says beside the estimate: the moment of the step that it came in, and its figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.fit.estimate import Fit, gigabytes

# PyTorch's own sentences (c10/cuda/CUDACachingAllocator.cpp); sizes as `21.95 GiB`.
_SIZE = r"([\d.]+) (bytes|[KMGT]iB)"
_WANTED = re.compile(rf"Tried to allocate {_SIZE}")
_CARD = re.compile(rf"total capacity of {_SIZE}")
_FREE = re.compile(rf"of which {_SIZE} is free")
_PROCESS = re.compile(rf"this process has {_SIZE} memory in use")
_TENSORS = re.compile(rf"Of the allocated memory {_SIZE} is allocated by PyTorch")
_UNITS = {unit: 2 ** (10 * power) for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB"))}
OTHERS = 1e9  # bytes of other processes on the card from which on they are named

# Frames by which a moment of the step is known: the first that is found, for a backward computes checkpointed layers
# again, and the loss's frames lie below the model's. With the estimate's phases of that moment.
MOMENTS = (
    ("optimizer step", r"torch/optim/|bitsandbytes/optim|optimizer\.step\(", ("optimizer step",)),
    ("backward", r"torch/autograd/|\.backward\(", ("loss", "backward", "first layer's backward", "head's backward")),
    ("logits and loss", r"cross_entropy|log_softmax|logsumexp|lm_head\(|loss_function\(|logprobs", ("forward", "loss")),
    ("forward", r"", ("forward", "gathering the embeddings")),
)


def exceeded(text: str, fit: Fit, step: int) -> str:
    """A sentence on where the estimate was exceeded; an empty one where PyTorch's error tells no sizes.

    Args:
        text: the last lines of the backend's log.
        step: the last one that was told of.
    """
    said = text[text.rfind("Tried to allocate") :]
    wanted, tensors = _bytes(_WANTED, said), _bytes(_TENSORS, said)
    if wanted is None or tensors is None:
        return ""
    moment, phases = moment_of(text[: -len(said)])
    memory = fit.memory
    expected = max(memory.phases.get(name, 0) for name in phases)
    parts = sorted(memory.parts.items(), key=lambda part: -part[1])[:3]
    listed = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts)
    found = (
        f"after step {step}, in the {moment}: {gigabytes(tensors)} of tensors and {gigabytes(wanted)} more, where the "
        f"estimate has {gigabytes(expected)} (its peak: {gigabytes(memory.peak)}; {listed})"
    )
    if others := _others(said):
        found += f"; other processes on this GPU hold {gigabytes(others)}"
    elif tensors + wanted < expected:
        found += "; the estimate itself is more than this GPU has: `recipe fit` says what would fit"
    return found


def moment_of(text: str) -> tuple[str, Sequence[str]]:
    """The moment of the step that the last traceback of a text comes from, and the estimate's phases of it."""
    frames = text[max(text.rfind("Traceback (most recent call last)"), 0) :]
    return next((name, phases) for name, pattern, phases in MOMENTS if re.search(pattern, frames))


def _others(said: str) -> float:
    card, free, own = (_bytes(one, said) for one in (_CARD, _FREE, _PROCESS))
    held = 0.0 if card is None or free is None or own is None else card - free - own
    return held if held > OTHERS else 0.0


def _bytes(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return float(found[1]) * _UNITS[found[2]] if found else None
