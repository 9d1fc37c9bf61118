"""The check of `backend_options` against the arguments that LLaMA-Factory's own parser knows (arguments.json)."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from adapters.llamafactory.inert import RENAMED, cannot_act
from adapters.native import NativeKey, native_keys
from recipes import Problem, Recipe, did_you_mean
from recipes.errors import SHOWN
from recipes.load import LoadedRecipe

FILE = Path(__file__).with_name("arguments.json")
OWN = "the adapter sets this key itself, of what the run needs: it cannot be another"
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


@cache
def arguments() -> dict[str, NativeKey]:
    """The arguments of LLaMA-Factory's parser by name."""
    return native_keys(json.loads(FILE.read_text(encoding="utf-8")))


def problems(loaded: LoadedRecipe, own: dict[str, str]) -> list[Problem]:
    """What is wrong with the recipe's `backend_options`: unknown, owned by a recipe field, or of a wrong type."""
    found: list[Problem] = []
    for key, value in loaded.recipe.backend_options.items():
        if len(found) == SHOWN:
            found.append(loaded.document.problem(("backend_options",), "keys after these were not looked at"))
            break
        text = _problem(key, value, own, loaded.recipe)
        if text:
            found.append(loaded.document.problem(("backend_options", key), text))
    return found


def _problem(key: str, value: Any, own: dict[str, str], recipe: Recipe) -> str | None:
    inert = cannot_act(key, recipe)
    if own.get(key) or (key in own and not inert):
        return f"the adapter sets this key itself; use the recipe's {own[key]}" if own[key] else OWN
    if inert:
        return inert
    known = arguments().get(key)
    if known is None:
        if key in RENAMED:
            return f"llamafactory 0.9.5 has no such argument; {RENAMED[key]}"
        return f"llamafactory 0.9.5 has no such argument{did_you_mean(key, arguments())}"
    if value is None and "null" in known.types:
        return None
    if known.choices and value not in known.choices:
        return f"{value!r} is not allowed; allowed: {', '.join(map(str, known.choices))}"
    if not _fits(value, known.types):
        return f"{value!r} is not allowed; allowed: {' or '.join(known.types)}"
    return None


def _fits(value: Any, types: Collection[str]) -> bool:
    if not set(types) & set(_KINDS):
        return True  # a dict or list, or a type that only the backend can judge
    if isinstance(value, bool):
        return "bool" in types
    return any(isinstance(value, _KINDS[t]) for t in types if t in _KINDS) or (
        isinstance(value, (dict, list)) and bool({"dict", "list"} & set(types))
    )
