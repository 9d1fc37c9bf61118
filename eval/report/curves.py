"""What the run itself says: losses, steps, time and memory, from its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

CURVES = ("loss", "eval_loss", "reward", "eval_reward")  # of metrics.jsonl
SPELLED = {"simpo": "SimPO", "reward": "reward"}  # other methods are abbreviations in capitals
RISE = 0.01  # an evaluation loss that ends this share above its best has turned


@dataclass(frozen=True, kw_only=True)
class Training:
    """Figures and curves of one training; None and empty where the run does not say.

    not_finite: losses and rewards that are no number or infinite, which are in no curve and no figure.
    """

    train: tuple[tuple[int, float], ...] = ()  # (step, loss)
    evaluation: tuple[tuple[int, float], ...] = ()
    reward: tuple[tuple[int, float], ...] = ()  # (step, mean reward), of GRPO
    evaluation_reward: tuple[tuple[int, float], ...] = ()
    seconds: float | None = None
    tokens_per_s: float | None = None
    supervised_tokens_per_s: float | None = None  # of these, with loss
    mfu: float | None = None  # of the peak of all GPUs, over the same steps
    peak_memory_gb: float | None = None
    expected_memory_gb: float | None = None
    trained_parameters: int | None = None
    not_finite: int = 0

    @property
    def total_steps(self) -> int | None:
        return max((step for step, _ in (*self.train, *self.evaluation)), default=None)

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, loss) where the evaluation loss was lowest."""
        return min(self.evaluation, key=lambda point: (point[1], point[0]), default=None)

    @property
    def overfits_from(self) -> int | None:
        """The step after which the evaluation loss only got worse, where it ended more than 1 % above its best."""
        if self.best is None or self.evaluation[-1][1] <= self.best[1] * (1 + RISE):
            return None
        return self.best[0]

    def figures(self) -> dict[str, float | None]:
        """The fields of evaluation_results.json."""
        first, last = (self.train[0][1], self.train[-1][1]) if self.train else (None, None)
        return {
            "initial_train_loss": first,
            "final_train_loss": last,
            "best_eval_loss": self.best[1] if self.best else None,
            "final_eval_loss": self.evaluation[-1][1] if self.evaluation else None,
            "total_steps": self.total_steps,
            "training_time_seconds": self.seconds,
            "training_time_hours": self.seconds / 3600 if self.seconds is not None else None,
            "peak_memory_gb": self.peak_memory_gb,
        }


def loss_label(recipe: Mapping[str, Any]) -> str:
    """What a recipe's losses are: losses of another label are in another unit, and stand on no common axis."""
    method = recipe.get("method")
    if method in ("sft", "pretrain"):
        return "loss (nats a token)"
    if not method:
        return "loss"
    kind = (recipe.get("preference") or {}).get("loss", "sigmoid")
    return f"{SPELLED.get(method, method.upper())} loss" + ("" if kind == "sigmoid" else f" ({kind})")


def training(
    lines: Sequence[Mapping[str, float]],
    *,
    seconds: float | None = None,
    expected_memory_gb: float | None = None,
    trained_parameters: int | None = None,
) -> Training:
    """The training of a run, of the lines of its metrics.jsonl in the order of steps."""

    def told(name: str) -> list[tuple[int, float]]:
        return [(int(line["step"]), float(line[name])) for line in lines if line.get(name) is not None]

    def curve(name: str) -> tuple[tuple[int, float], ...]:
        return tuple(sorted(point for point in told(name) if isfinite(point[1])))

    def mean(name: str) -> float | None:
        """Over the time of the steps that tell it."""
        used = [(line[name], line["step_time_s"]) for line in lines if line.get(name) and line.get("step_time_s")]
        return sum(value * time for value, time in used) / sum(time for _, time in used) if used else None

    timed = [line for line in lines if line.get("tokens") and line.get("step_time_s")]
    return Training(
        train=curve("loss"),
        evaluation=curve("eval_loss"),
        reward=curve("reward"),
        evaluation_reward=curve("eval_reward"),
        seconds=seconds,
        tokens_per_s=sum(line["tokens"] for line in timed) / sum(line["step_time_s"] for line in timed)
        if timed
        else None,
        supervised_tokens_per_s=mean("supervised_tokens_per_s"),
        mfu=mean("mfu"),
        expected_memory_gb=expected_memory_gb,
        peak_memory_gb=max((float(line["memory_gb"]) for line in lines if line.get("memory_gb")), default=None),
        trained_parameters=trained_parameters,
        not_finite=sum(not isfinite(value) for name in CURVES for _, value in told(name)),
    )
