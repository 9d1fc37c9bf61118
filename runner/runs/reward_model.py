"""Runs that made a reward model: it scores replies and writes none, so that not every verb can do something with it."""

from __future__ import annotations

from recipes import UserError
from recipes.methods import METHODS
from runner.runs.rundir import Run


def is_reward_model(run: Run) -> bool:
    """Whether a run's model scores replies, by a head of its own."""
    return METHODS[run.recipe().recipe.method].scores


def check_writes(run: Run, verb: str) -> None:
    """Raise UserError where a run's model is a reward model; `verb`: what it cannot be, such as `served`."""
    if is_reward_model(run):
        ask = f"`recipe eval {run.name}` measures it, its README.md has the lines that ask it for a score"
        raise UserError(
            f"{run.name} made a reward model, which scores replies and writes none: it cannot be {verb}; {ask}"
        )
