"""The keys of verl's own configuration tree, and the check of `backend_options` against them.

tree.json is made by describe.py of the pinned version itself, inside its environment:
    python -m adapters.verl.describe > adapters/verl/tree.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from adapters.ledger import plain
from adapters.native import NOT_KEPT, NativeKey, native_keys
from adapters.verl.inert import alone, cannot_act
from recipes import Problem, Recipe, did_you_mean
from recipes.errors import SHOWN
from recipes.load import LoadedRecipe

FILE = Path(__file__).with_name("tree.json")
# verl reads more there than its YAML shows
OPEN = (
    "engine.wrap_policy",
    "engine.override_transformer_config",
    "ray_kwargs.ray_init",
    "actor_rollout_ref.actor.fsdp_config.wrap_policy",
)
OWN = "the adapter sets this key itself, of what the run needs: it cannot be another"
KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "list": (list,), "dict": (dict,),
    "null": (type(None),),
}  # fmt: skip
# Overrides of a model's config that are more than a way of training it.
CHANGES_MODEL = re.compile(r"(actor_rollout_ref\.)?model\.override_config\.(?!.*(dropout|pdrop|router|aux_loss)).*")
_ANY = NativeKey()


@cache
def tree(name: str) -> dict[str, NativeKey]:
    """The keys of one of verl's trees, dotted."""
    loaded = json.loads(FILE.read_text(encoding="utf-8"))
    return native_keys(loaded[name] | (loaded["sft"] if name.startswith("sft") else {}))


def tree_of(recipe: Recipe) -> str:
    if recipe.method == "grpo":
        return "grpo"
    return "sft-megatron" if recipe.distributed.strategy == "megatron" else "sft-fsdp"


def problems(loaded: LoadedRecipe, own: dict[str, str]) -> list[Problem]:
    """What is wrong with the recipe's `backend_options`: unknown, owned by a recipe field, or of a wrong type."""
    name, grpo = tree_of(loaded.recipe), loaded.recipe.grpo
    fields = {"grpo.kl_in": grpo.kl_in if grpo.kl_coef > 0 else "", "grpo.rollouts.engine": grpo.rollouts.engine}
    deciding = fields if name == "grpo" else {}
    found: list[Problem] = []
    given = list(_leaves(plain(loaded.recipe.backend_options), ()))
    options = {".".join(path): value for path, value in given}
    for path, value in given:
        if len(found) == SHOWN:
            found.append(loaded.document.problem(("backend_options",), "keys after these were not looked at"))
            break
        key = ".".join(path)
        text = _problem(key, value, own, name, deciding, options)
        if not text and loaded.recipe.tuning.type == "lora" and CHANGES_MODEL.fullmatch(key):
            text = NOT_KEPT
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


def _problem(
    key: str, value: Any, own: dict[str, str], name: str, fields: dict[str, str], options: dict[str, Any]
) -> str | None:
    known = tree(name)
    leaf = known.get(key) or _free(key, known)
    # A key below one that the adapter sets, or that does nothing, is no other case than that one.
    parents = [key.rsplit(".", n)[0] for n in range(key.count(".") + 1)]
    owned = next((parent for parent in parents if parent in own), None)
    reasons = (cannot_act(parent, name, fields) for parent in parents if leaf is not None)
    inert = next(filter(None, reasons), None)
    if owned and (own[owned] or not inert):
        field = own[owned]
        return f"the adapter sets this key itself; use the recipe's {field}" if field else OWN
    if inert:
        return inert
    below = [one for one in own if one.startswith(f"{key}.")]
    if below:  # an empty mapping, or null, in the place of what the adapter writes there
        return f"the adapter sets {below[0]} there; set single keys below {key}"
    if leaf is None:
        return f"verl 0.9.1 has no such key{_near(key, known)}"
    if off := alone(key, options, own):
        return off
    if value is None and leaf.default is None:
        return None
    if leaf.types and not any(_fits(value, kind) for kind in leaf.types):
        return f"{value!r} is not allowed; allowed: {' or '.join(leaf.types)}"
    return None


def _free(key: str, known: dict[str, NativeKey]) -> NativeKey | None:
    """A key under a mapping that verl leaves open (`model.override_config.rope_theta`)."""
    parents = [key.rsplit(".", n)[0] for n in range(1, key.count(".") + 1)]
    is_open = any(parent in OPEN or "dict" in known.get(parent, _ANY).types for parent in parents)
    return _ANY if is_open else None


def _near(key: str, known: dict[str, NativeKey]) -> str:
    children = [name for name in known if name.startswith(f"{key}.")]
    return f"; it holds {', '.join(children[:5])}" if children else did_you_mean(key, known)


def _fits(value: Any, kind: str) -> bool:
    return (isinstance(value, bool) and kind == "bool") or (
        not isinstance(value, bool) and isinstance(value, KINDS.get(kind, (object,)))
    )
