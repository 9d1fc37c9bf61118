"""Fixed paths, so that a plan is the same on every machine."""

from __future__ import annotations

from pathlib import Path

from adapters.contract import Paths
from recipes import LoadedRecipe


def fixed_paths(loaded: LoadedRecipe) -> Paths:
    return Paths(
        run=Path("/runs") / loaded.recipe.name,
        python=Path("/env/bin/python"),
        model=loaded.recipe.model.path.replace("bundled:", "/models/"),
        code=Path("/code"),
    )
