"""What a recipe needs that no lock has: told before rows are prepared, with the command that puts it there."""

from __future__ import annotations

from pathlib import Path

from recipes import Recipe, UserError
from runner.machine.environments import Environment, versions_of
from runner.machine.layering import name_of

NEEDS = {"flash_attention_2": "flash-attn"}  # an attention implementation, and its package


def check_needs(recipe: Recipe, wanted: Environment, current: Path | None) -> None:
    """Raise UserError where an environment lacks what `model.attention` needs.

    Args:
        wanted: the backend's locked environment, with its layers; it need not be built.
        current: the interpreter of `--env current`, which trains in its place.
    """
    asked = recipe.model.attention
    needed = NEEDS.get(asked)
    names = versions_of(current, wanted) if current else map(name_of, wanted.requirements)
    if needed and needed not in names:
        where = f"{current}" if current else f"the environment of {wanted.name}"
        to_do = "install it there, or use sdpa"
        if not current:
            to_do = f"put it over the lock: recipe setup {wanted.name} --with {needed}; or use sdpa"
        raise UserError(f"model.attention: {asked} needs {needed}, which {where} does not have; {to_do}")
