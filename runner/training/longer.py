"""A training made longer: the steps that it then has, and what becomes of its learning rate, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from recipes import Recipe, UserError
from recipes.typed import read_typed
from recipes.types import Training
from runner.data.spec import Accounting
from runner.runs.rundir import Run
from runner.training.prepare import counts

FIELDS = ("training.epochs", "training.max_steps")  # that say how long a training is


def rows_of(run: Run) -> int:
    """Training rows, or packs, of an epoch of a run.

    Raises:
        UserError: its data are not prepared.
    """
    if not run.accounting.is_file():
        raise UserError(f"{run.name} has no prepared rows, so nothing says how long an epoch is: `recipe resume` first")
    return counts(read_typed(Accounting, run.accounting)).train_rows or 0


def steps_per_epoch(recipe: Recipe, rows: int) -> int:
    """Optimizer steps of an epoch: a last batch that is not full is a step too, but not of GRPO."""
    count = math.floor if recipe.method == "grpo" else math.ceil
    return max(1, count(rows / recipe.training.global_batch_size))


def total_steps(recipe: Recipe, rows: int) -> int:
    """Optimizer steps of a whole training."""
    return recipe.training.max_steps or math.ceil(recipe.training.epochs * steps_per_epoch(recipe, rows))


def overrides(run: Run, recipe: Recipe, more: int) -> tuple[str, ...]:
    """What makes a recipe's training longer by whole epochs, as `--set` takes it."""
    if recipe.training.max_steps:
        steps = recipe.training.max_steps + more * steps_per_epoch(recipe, rows_of(run))
        return (f"training.max_steps={steps}",)
    return (f"training.epochs={recipe.training.epochs + more}",)


def rate(training: Training, total: int, step: int) -> float:
    """The learning rate of a step, from 1, of a training of `total` steps: as both backends compute it."""
    done = step - 1
    warmup = warmup_steps(training, total)
    if done < warmup:
        return training.learning_rate * done / warmup
    progress = (done - warmup) / max(1, total - warmup)
    factor = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
    return training.learning_rate * max(0.0, factor[training.scheduler])


def warmup_steps(training: Training, total: int) -> int:
    """Steps of the warmup: a share of the training is rounded up."""
    return training.warmup_steps if training.warmup_steps is not None else math.ceil(training.warmup_ratio * total)


def said(before: Recipe, after: Recipe, rows: int, step: int) -> Iterator[str]:
    """What going on after `step` with a longer training does to its schedule."""
    old, new = total_steps(before, rows), total_steps(after, rows)
    training = after.training
    yield (
        f"the training has {new} steps in place of {old}, and goes on with step {step + 1}, with the optimizer's state "
        "as it was"
    )
    last, now = rate(before.training, old, max(1, step)), rate(training, new, step + 1)
    if training.scheduler == "constant":
        yield f"learning rate: constant, {now:.2e}, as in a training of this length from the start"
    else:
        jump = f", {now / last:.2g} times that of step {step}" if last and now > last * 1.001 else ""
        yield (
            f"learning rate: {training.scheduler} over all {new} steps: {now:.2e} at step {step + 1}{jump} "
            f"({last:.2e} when it was to end at {old}), and falls to 0 by step {new}; the steps before were trained on "
            "the shorter schedule, so this is not what a training of this length from the start would be"
        )
    if step < warmup_steps(training, new) and training.scheduler != "constant":
        yield f"step {step + 1} is within the warmup of the longer schedule, of {warmup_steps(training, new)} steps"
