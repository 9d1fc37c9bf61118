"""The adapter that a training starts from, where the backend itself cannot make it: what it is made of, and how."""

from __future__ import annotations

import json

from adapters.contract import Paths, Topology
from adapters.ledger import plain
from adapters.native import Config, precision
from recipes import Recipe
from recipes.tuning_checks import MOVED

FILE = "backend/lora.json"
ADAPTER = "backend/initial_adapter"  # made of FILE by initial_adapter.py, before the training
RESIDUAL = "backend/residual"  # the base without what the adapter took out of it


def on_residual(recipe: Recipe) -> bool:
    """Whether the training has another base than the recipe's model."""
    return recipe.tuning.type == "lora" and recipe.tuning.init in MOVED


def lora_file(recipe: Recipe, topology: Topology, paths: Paths) -> Config:
    """What initial_adapter.py makes the adapter of."""
    tuning = recipe.tuning
    options: Config = {
        "r": tuning.rank,
        "lora_alpha": tuning.alpha,
        "lora_dropout": tuning.dropout,
        "target_modules": plain(tuning.target_modules),
        "use_rslora": tuning.rslora,
        "use_dora": tuning.dora,
    }
    if tuning.modules_to_save:
        options["modules_to_save"] = list(tuning.modules_to_save)
    residual: Config = {"dtype": precision(recipe, topology), "tokenizer": recipe.model.tokenizer is None}
    return {
        "model": paths.model,
        "revision": recipe.model.revision,
        "trust_remote_code": recipe.model.trust_remote_code,
        "seed": recipe.training.seed,
        "init": tuning.init,
        **(residual if on_residual(recipe) else {}),
        "options": options,
    }


def files(recipe: Recipe, topology: Topology, paths: Paths) -> dict[str, str]:
    return {FILE: json.dumps(lora_file(recipe, topology, paths), indent=1) + "\n"}


def command(recipe: Recipe, paths: Paths) -> tuple[str, ...]:
    residual = ("--residual", RESIDUAL) if on_residual(recipe) else ()
    return (str(paths.python), "-m", "adapters.initial_adapter", FILE, ADAPTER, *residual)
