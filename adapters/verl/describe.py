"""Writes down the keys of verl's configuration trees, so that planning can check options without importing it.

Inside its environment: python -m adapters.verl.describe > adapters/verl/tree.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from adapters.verl.options import KINDS

TREES = {  # verl's entry, and what is chosen in it
    "sft-fsdp": ("sft_trainer_engine", ["engine=fsdp", "optim=fsdp"]),
    "sft-megatron": ("sft_trainer_engine", ["engine=megatron", "optim=megatron"]),
    "grpo": ("ppo_trainer", []),
}


def describe() -> dict[str, dict[str, Any]]:
    """Every leaf of the composed trees and of their dataclasses, what SFT's share apart; runs in the environment."""
    trees = {name: dict(_tree(*entry)) for name, entry in TREES.items()}
    fsdp, megatron = trees["sft-fsdp"], trees["sft-megatron"]
    shared = {key: leaf for key, leaf in fsdp.items() if leaf == megatron.get(key)}
    parts = {"sft": shared} | {
        name: {key: leaf for key, leaf in leaves.items() if name == "grpo" or key not in shared}
        for name, leaves in trees.items()
    }
    return {name: dict(sorted(leaves.items())) for name, leaves in parts.items()}


def _tree(entry: str, overrides: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(entry, overrides=overrides)
    yield from _nodes(OmegaConf.to_container(config, resolve=False), "")


def _nodes(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    fields = _fields(node.get("_target_"))
    for key in [*node, *(name for name in fields if name not in node)]:
        value = node.get(key, fields.get(key, {}).get("default"))
        if key == "_target_":
            continue
        if isinstance(value, dict) and value:
            yield from _nodes(value, f"{prefix}{key}.")
        else:
            types = fields[key]["types"] if key in fields else _value(value)
            yield f"{prefix}{key}", {"types": types, "default": value}


def _value(value: Any) -> list[str]:
    """What a value of the YAML tells; null and references tell nothing."""
    if value is None or (isinstance(value, str) and "${" in value):
        return []
    return [type(value).__name__]


def _fields(target: str | None) -> dict[str, dict[str, Any]]:
    """The fields of a node's dataclass, some of which are in no YAML (`engine.mixed_precision`)."""
    import dataclasses
    import typing

    from hydra.utils import get_class

    if not target:
        return {}
    kind = get_class(target)
    hints = typing.get_type_hints(kind)
    return {
        field.name: {
            "types": _hint(hints[field.name]),
            "default": field.default if isinstance(field.default, (str, int, float)) else None,
        }
        for field in dataclasses.fields(kind)
        if field.init and not field.name.startswith("_")
    }


def _hint(hint: Any) -> list[str]:
    """The names of a type hint's kinds; none where it allows anything."""
    import types
    import typing

    origin = typing.get_origin(hint) or hint
    if origin in (typing.Union, types.UnionType):
        parts = typing.get_args(hint)
        return [] if Any in parts else sorted({name for part in parts for name in _hint(part)})
    if origin is Any or origin is typing.Literal:
        return [] if origin is Any else ["str"]
    name = {"NoneType": "null", "tuple": "list"}.get(origin.__name__, origin.__name__)
    return [name if name in KINDS else "dict"]  # a dataclass of its own


def text(described: dict[str, dict[str, Any]]) -> str:
    """JSON with one line for each key."""
    parts = (
        f' "{part}": {{\n' + ",\n".join(f'  "{key}": {json.dumps(leaf)}' for key, leaf in leaves.items()) + "\n }"
        for part, leaves in described.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}"


if __name__ == "__main__":
    print(text(describe()))
