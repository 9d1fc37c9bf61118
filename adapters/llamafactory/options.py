"""The arguments that LLaMA-Factory's own parser knows, and the check of `backend_options` against them.

arguments.json is made by the pinned version itself, inside its environment:
    python -m adapters.llamafactory.options > adapters/llamafactory/arguments.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from recipes import Problem, did_you_mean
from recipes.load import LoadedRecipe

FILE = Path(__file__).with_name("arguments.json")
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


@cache
def arguments() -> dict[str, dict[str, Any]]:
    """Argument name to {"types": names of JSON-like types, "choices": list or absent}."""
    loaded: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return loaded


def problems(loaded: LoadedRecipe, own: dict[str, str]) -> list[Problem]:
    """What is wrong with the recipe's `backend_options`: unknown, owned by a recipe field, or of a wrong type."""
    found = []
    for key, value in loaded.recipe.backend_options.items():
        text = _problem(key, value, own)
        if text:
            found.append(loaded.document.problem(("backend_options", key), text))
    return found


def _problem(key: str, value: Any, own: dict[str, str]) -> str | None:
    if key in own:
        instead = f"; use the recipe's {own[key]}" if own[key] else ""
        return f"the adapter sets this key itself{instead}"
    known = arguments().get(key)
    if known is None:
        return f"llamafactory 0.9.5 has no such argument{did_you_mean(key, arguments())}"
    if value is None and "null" in known["types"]:
        return None
    if known.get("choices") and value not in known["choices"]:
        return f"{value!r} is not allowed; allowed: {', '.join(map(str, known['choices']))}"
    if not _fits(value, known["types"]):
        return f"{value!r} is not allowed; allowed: {' or '.join(known['types'])}"
    return None


def _fits(value: Any, types: list[str]) -> bool:
    if not set(types) & set(_KINDS):
        return True  # a dict or list, or a type that only the backend can judge
    if isinstance(value, bool):
        return "bool" in types
    return any(isinstance(value, _KINDS[t]) for t in types if t in _KINDS) or (
        isinstance(value, (dict, list)) and bool({"dict", "list"} & set(types))
    )


def _describe() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every argument of the training parser; runs inside the environment."""
    import dataclasses
    import enum
    import typing

    from llamafactory.hparams import parser

    for kind in parser._TRAIN_ARGS:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if not field.init:
                continue
            flat = _flatten(hints[field.name])
            choices = [c for t in flat if typing.get_origin(t) is typing.Literal for c in typing.get_args(t)]
            choices += [m.value for t in flat if isinstance(t, type) and issubclass(t, enum.Enum) for m in t]
            names = {_name(t) for t in flat}
            yield field.name, {"types": sorted(names)} | ({"choices": choices} if choices else {})


def _flatten(hint: Any) -> list[Any]:
    import types
    import typing

    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [t for part in typing.get_args(hint) for t in _flatten(part)]
    return [hint]


def _name(hint: Any) -> str:
    import typing

    origin = typing.get_origin(hint) or hint
    if origin is type(None):
        return "null"
    if origin is typing.Literal or (isinstance(origin, type) and origin.__module__.startswith("transformers")):
        return "str"
    return getattr(origin, "__name__", str(origin))


if __name__ == "__main__":
    print(json.dumps(dict(sorted(_describe())), indent=1))
