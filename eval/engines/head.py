"""What stands on a model's last layer: its logits, only where they are needed, and a reward model's score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


class Head:
    """A model's output layer, which sees only the positions that are kept.

    A hook in front of the layer picks the hidden states, so the model's own code still applies its soft cap or scale.
    A model without such a layer computes all logits, and they are picked afterwards.
    """

    def __init__(self, model: Any) -> None:
        self.positions: torch.Tensor | None = None
        layer = model.get_output_embeddings()
        self.hooked = layer is not None
        if self.hooked:
            layer.register_forward_pre_hook(self._pick)

    @contextmanager
    def keeping(self, positions: torch.Tensor | None) -> Iterator[None]:
        """Within, forward passes give logits at these places (batch × time, bool); None: at one, which nobody reads."""
        self.positions = positions
        self.active = True
        try:
            yield
        finally:
            self.active = False

    active = False

    def _pick(self, _layer: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if not self.active:
            return None
        hidden = inputs[0]
        picked = hidden[:1, -1] if self.positions is None else hidden[self.positions.to(hidden.device)]
        return (picked[None], *inputs[1:])

    def kept(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits that were kept, as (kept positions × vocabulary)."""
        if self.hooked:
            return logits[0]
        assert self.positions is not None
        return logits[self.positions.to(logits.device)]


class ValueHead:
    """The head of a reward model: one number of a hidden state, in float32 as it was trained."""

    def __init__(self, file: Path) -> None:
        from safetensors.torch import load_file

        found = load_file(file)
        self.weight, self.bias = (found[f"v_head.summary.{name}"].float() for name in ("weight", "bias"))

    def __call__(self, hidden: torch.Tensor) -> list[float]:
        """The scores of hidden states (n × hidden size)."""
        scores: list[float] = (hidden.float().cpu() @ self.weight[0] + self.bias).tolist()
        return scores
