"""The learning rate of a training that goes on; inside every backend's environment."""

from __future__ import annotations

from typing import Any


def follow(scheduler: Any) -> None:
    """Have the optimizer take the rate that its schedule gives for the next step.

    A resumed optimizer brings the rate that the schedule of its time gave: the same, bit for bit, while that is the
    schedule still; but where the training was made longer, the end of the old one, which for cosine is zero.

    Args:
        scheduler: torch's LambdaLR, or what accelerate wraps around it; any other is left alone.
    """
    inner = getattr(scheduler, "scheduler", scheduler)
    if hasattr(inner, "lr_lambdas"):
        for group, base, factor in zip(inner.optimizer.param_groups, inner.base_lrs, inner.lr_lambdas, strict=True):
            group["lr"] = base * factor(inner.last_epoch)
        inner._last_lr = [group["lr"] for group in inner.optimizer.param_groups]  # what it is asked for by logs
