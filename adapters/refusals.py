"""What a backend does not do, and which other one does: computed from what each adapter says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapters import BACKENDS, backend
from adapters.contract import Backend, Topology
from adapters.ledger import Entry
from recipes import Problem, Recipe, schema
from recipes.load import LoadedRecipe


def unsupported(loaded: LoadedRecipe) -> list[Problem]:
    """The method, tuning, quantization, strategy or logger of a recipe that its backend does not have at all."""
    recipe, own = loaded.recipe, backend(loaded.recipe.backend)
    kinds = (
        (("method",), recipe.method, lambda module: module.METHODS),
        (("tuning", "type"), recipe.tuning.type, lambda module: module.TUNINGS),
        (("tuning", "quantization"), recipe.tuning.quantization, lambda module: (None, *module.QUANTIZATIONS)),
        (("distributed", "strategy"), recipe.distributed.strategy, lambda module: ("auto", *module.STRATEGIES)),
    )
    found = []
    for path, value, of in kinds:
        if value not in of(own):
            allowed = ", ".join(str(one) for one in of(own) if one is not None) or "null"
            others = [name for name in BACKENDS if value in of(backend(name))]
            text = f"{value} does not run on {own.NAME}; allowed there: {allowed}{_on(others, str(value))}"
            found.append(loaded.document.problem(path, text))
    for logger in recipe.logging:
        if logger not in loggers(own):
            allowed = ", ".join(loggers(own)) or "none"
            text = f"the environment of {own.NAME} has no {logger}; allowed there: {allowed}"
            elsewhere = _on([name for name in BACKENDS if logger in loggers(backend(name))], logger)
            found.append(loaded.document.problem(("logging",), text + elsewhere))
    return found


def loggers(module: Backend) -> list[str]:
    """The loggers of the schema whose package, of the same name, is in every lock of a backend."""
    locks = [lock.read_text(encoding="utf-8").splitlines() for lock in set(module.LOCKS.values())]
    locked = [{line.partition("==")[0] for line in lines} for lines in locks]
    return [name for name in schema.leaves()["logging"]["items"]["enum"] if all(name in names for names in locked)]


def refusals(entries: Iterable[Entry], loaded: LoadedRecipe, topology: Topology) -> list[Problem]:
    """A problem for each refused field that the recipe gives with another value than the schema's default."""
    defaults = {name: leaf.get("default") for name, leaf in schema.leaves().items()}
    found = []
    for entry in entries:
        if entry.status == "refused":
            for path, value in _given(loaded.document.value, entry.field):
                if value != defaults.get(entry.field):
                    others = _elsewhere(entry.field, loaded.recipe, topology)
                    found.append(loaded.document.problem(path, entry.note + _on(others, "this")))
    return found


def _elsewhere(field: str, recipe: Recipe, topology: Topology) -> list[str]:
    """The other backends that have the recipe's method, and honour the field."""
    others = [name for name in BACKENDS if name != recipe.backend and recipe.method in backend(name).METHODS]
    ledgers = {name: backend(name).ledger(recipe, topology) for name in others}
    return [
        name
        for name, entries in ledgers.items()
        if any(entry.field == field and entry.status != "refused" for entry in entries)
    ]


def _on(backends: list[str], what: str) -> str:
    return f"; {what} runs on backend: {' or '.join(backends)}" if backends else ""


def _given(node: Any, field: str) -> list[tuple[tuple[str | int, ...], Any]]:
    """Where a leaf such as `data.train[].path` stands in a recipe as it was written, with its values."""
    found: list[tuple[tuple[str | int, ...], Any]] = [((), node)]
    for name in field.replace("[]", ".[]").split("."):
        step: list[tuple[tuple[str | int, ...], Any]] = []
        for path, value in found:
            if name == "[]" and isinstance(value, list):
                step += [((*path, n), item) for n, item in enumerate(value)]
            elif isinstance(value, dict) and name in value:
                step.append(((*path, name), value[name]))
        found = step
    return found
