"""AdamW that decays what transformers' Trainer decays: matrices, neither biases nor norms (`optim.optimizer_impl`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class AdamW(torch.optim.AdamW):  # type: ignore[misc]
    """verl hands all parameters over in one list; their shape tells them apart."""

    def __init__(self, params: Iterable[torch.nn.Parameter], *, weight_decay: float, **settings: Any) -> None:
        trained = [p for p in params if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        super().__init__([group for group in groups if group["params"]], **settings)
