"""Shows a training live: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from recipes.visible import visible

PLAIN_EVERY_S = 5.0
RECENT = 20  # steps that a rate is of


def duration(seconds: float) -> str:
    """`75` as `1:15`, `3700` as `1:01:40`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Takes each step's metrics.

    Args:
        say: takes plain lines where there is no bar.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.total = 0
        self.last = 0.0
        self.times: list[float] = []  # seconds of the last steps, and their tokens
        self.tokens: list[float] = []
        self.bar: Any = None

    def begin(self, total: int) -> None:
        """Take the number of steps of the whole training, when the backend tells it."""
        self.total = total

    def step(self, values: dict[str, float]) -> None:
        for kind in ("loss", "reward"):
            if f"eval_{kind}" in values:
                self.line(f"step {values['step']:.0f}: validation {kind} {values[f'eval_{kind}']:.4f}")
        if "loss" in values:
            self.times = [*self.times, values.get("step_time_s", 0.0)][-RECENT:]
            self.tokens = [*self.tokens, values.get("tokens", 0.0)][-RECENT:]
            self._show(values)

    def _show(self, values: dict[str, float]) -> None:
        step = int(values["step"])
        text = self._text(values, step)
        if sys.stderr.isatty():
            self._draw(step, text)
        elif time.monotonic() - self.last >= PLAIN_EVERY_S or step == self.total:
            self.last = time.monotonic()
            self.line(f"step {step}/{self.total or '?'}  {text}")

    def _text(self, values: dict[str, float], step: int) -> str:
        parts = [f"loss {values['loss']:.4f}"]
        if "learning_rate" in values:
            parts.append(f"lr {values['learning_rate']:.2e}")
        for name, label in (("rewards/margins", "margin"), ("rewards/accuracies", "accuracy"), ("reward", "reward")):
            if name in values:
                parts.append(f"{label} {values[name]:.3f}")
        mean = sum(self.times) / len(self.times) if self.times else 0.0
        if mean and any(self.tokens):
            rate, own = sum(self.tokens) / sum(self.times), values.get("supervised_tokens_per_s", 0.0)
            loss = f" ({rate * own / values['tokens_per_s']:,.0f} with loss)" if own else ""
            parts.append(f"{rate:,.0f} tok/s{loss}")
        if values.get("mfu"):
            parts.append(f"MFU {values['mfu']:.0%}")
        if mean and self.total:
            parts.append(f"{duration(mean * (self.total - step))} left")
        return "  ".join(parts)

    def _draw(self, step: int, text: str) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(text, total=self.total or None)
            self.bar.start()
        self.bar.update(self.task, completed=step, total=self.total or None, description=text)

    def line(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(visible(text), highlight=False, markup=False)
        else:
            self.say(text)

    def close(self) -> None:
        if self.bar is not None:
            with suppress(OSError):  # the terminal has gone; the training has not
                self.bar.stop()
            self.bar = None
