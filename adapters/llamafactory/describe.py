"""Writes down the arguments of LLaMA-Factory's own parser, so that planning can check options without importing it.

Inside its environment: python -m adapters.llamafactory.describe > adapters/llamafactory/arguments.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def describe() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every argument of the training parser, with its types and choices."""
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
    print(json.dumps(dict(sorted(describe())), indent=1))
