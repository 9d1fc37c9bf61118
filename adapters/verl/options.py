"""The keys of verl's own configuration tree, and the check of `backend_options` against them.

tree.json is made by the pinned version itself, inside its environment:
    python -m adapters.verl.options > adapters/verl/tree.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from adapters.plan import plain
from recipes import Problem, Recipe, did_you_mean
from recipes.load import LoadedRecipe

FILE = Path(__file__).with_name("tree.json")
TREES = {  # verl's entry, and what is chosen in it
    "sft-fsdp": ("sft_trainer_engine", ["engine=fsdp", "optim=fsdp"]),
    "sft-megatron": ("sft_trainer_engine", ["engine=megatron", "optim=megatron"]),
    "grpo": ("ppo_trainer", []),
}
# verl reads more there than its YAML shows
OPEN = (
    "engine.wrap_policy",
    "engine.override_transformer_config",
    "ray_kwargs.ray_init",
    "actor_rollout_ref.actor.fsdp_config.wrap_policy",
)
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "list": (list,), "dict": (dict,),
    "null": (type(None),),
}  # fmt: skip
_ANY: dict[str, Any] = {"types": [], "default": None}


@cache
def tree(name: str) -> dict[str, dict[str, Any]]:
    """Dotted key to {"types": names of JSON-like types, empty for any; "default"} of one of verl's trees."""
    loaded = json.loads(FILE.read_text(encoding="utf-8"))
    known: dict[str, dict[str, Any]] = loaded[name] | (loaded["sft"] if name.startswith("sft") else {})
    return known


def tree_of(recipe: Recipe) -> str:
    if recipe.method == "grpo":
        return "grpo"
    return "sft-megatron" if recipe.distributed.strategy == "megatron" else "sft-fsdp"


def problems(loaded: LoadedRecipe, own: dict[str, str]) -> list[Problem]:
    """What is wrong with the recipe's `backend_options`: unknown, owned by a recipe field, or of a wrong type."""
    known = tree(tree_of(loaded.recipe))
    found = []
    for path, value in _leaves(plain(loaded.recipe.backend_options), ()):
        text = _problem(".".join(path), value, own, known)
        if text:
            found.append(loaded.document.problem(("backend_options", *path), text))
    return found


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value with the keys that lead to it; keys may be nested, dotted, or both."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _problem(key: str, value: Any, own: dict[str, str], known: dict[str, dict[str, Any]]) -> str | None:
    if key in own:
        instead = f"; use the recipe's {own[key]}" if own[key] else ""
        return f"the adapter sets this key itself{instead}"
    if key.startswith("data."):
        return "the rows come prepared; use the recipe's data section"
    leaf = known.get(key) or _free(key, known)
    if leaf is None:
        return f"verl 0.9.1 has no such key{_near(key, known)}"
    if value is None and leaf["default"] is None:
        return None
    if leaf["types"] and not any(_fits(value, kind) for kind in leaf["types"]):
        return f"{value!r} is not allowed; allowed: {' or '.join(leaf['types'])}"
    return None


def _free(key: str, known: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """A key under a mapping that verl leaves open (`model.override_config.rope_theta`)."""
    parents = [key.rsplit(".", n)[0] for n in range(1, key.count(".") + 1)]
    is_open = any(parent in OPEN or "dict" in known.get(parent, _ANY)["types"] for parent in parents)
    return _ANY if is_open else None


def _near(key: str, known: dict[str, dict[str, Any]]) -> str:
    children = [name for name in known if name.startswith(f"{key}.")]
    return f"; it holds {', '.join(children[:5])}" if children else did_you_mean(key, known)


def _fits(value: Any, kind: str) -> bool:
    return (isinstance(value, bool) and kind == "bool") or (
        not isinstance(value, bool) and isinstance(value, _KINDS.get(kind, (object,)))
    )


def _describe() -> dict[str, dict[str, Any]]:
    """Every leaf of the composed trees and of their dataclasses, what SFT's share apart; runs in the environment."""
    trees = {name: dict(_describe_tree(*entry)) for name, entry in TREES.items()}
    fsdp, megatron = trees["sft-fsdp"], trees["sft-megatron"]
    shared = {key: leaf for key, leaf in fsdp.items() if leaf == megatron.get(key)}
    parts = {"sft": shared} | {
        name: {key: leaf for key, leaf in leaves.items() if name == "grpo" or key not in shared}
        for name, leaves in trees.items()
    }
    return {name: dict(sorted(leaves.items())) for name, leaves in parts.items()}


def _describe_tree(entry: str, overrides: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(entry, overrides=overrides)
    yield from _describe_nodes(OmegaConf.to_container(config, resolve=False), "")


def _describe_nodes(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    fields = _describe_fields(node.get("_target_"))
    for key in [*node, *(name for name in fields if name not in node)]:
        value = node.get(key, fields.get(key, {}).get("default"))
        if key == "_target_":
            continue
        if isinstance(value, dict) and value:
            yield from _describe_nodes(value, f"{prefix}{key}.")
        else:
            types = fields[key]["types"] if key in fields else _describe_value(value)
            yield f"{prefix}{key}", {"types": types, "default": value}


def _describe_value(value: Any) -> list[str]:
    """What a value of the YAML tells; null and references tell nothing."""
    if value is None or (isinstance(value, str) and "${" in value):
        return []
    return [type(value).__name__]


def _describe_fields(target: str | None) -> dict[str, dict[str, Any]]:
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
            "types": _describe_hint(hints[field.name]),
            "default": field.default if isinstance(field.default, (str, int, float)) else None,
        }
        for field in dataclasses.fields(kind)
        if field.init and not field.name.startswith("_")
    }


def _describe_hint(hint: Any) -> list[str]:
    """The names of a type hint's kinds; none where it allows anything."""
    import types
    import typing

    origin = typing.get_origin(hint) or hint
    if origin in (typing.Union, types.UnionType):
        parts = typing.get_args(hint)
        return [] if Any in parts else sorted({name for part in parts for name in _describe_hint(part)})
    if origin is Any or origin is typing.Literal:
        return [] if origin is Any else ["str"]
    name = {"NoneType": "null", "tuple": "list"}.get(origin.__name__, origin.__name__)
    return [name if name in _KINDS else "dict"]  # a dataclass of its own


def _describe_text(described: dict[str, dict[str, Any]]) -> str:
    """JSON with one line for each key."""
    parts = (
        f' "{part}": {{\n' + ",\n".join(f'  "{key}": {json.dumps(leaf)}' for key, leaf in leaves.items()) + "\n }"
        for part, leaves in described.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}"


if __name__ == "__main__":
    print(_describe_text(_describe()))
