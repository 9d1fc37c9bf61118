"""The ledger: what becomes of each recipe field on a backend, and the refusals that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recipes import Problem, Recipe, schema
from recipes.load import LoadedRecipe


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger: what becomes of a recipe field on this backend.

    field: dotted name of the recipe field; "" for a key that the adapter sets of itself.
    status: mapped (to `native` with `value`), runner (the runner does it), refused (`note` says why).
    """

    field: str
    status: Literal["mapped", "runner", "refused"]
    native: str = ""
    value: Any = None
    note: str = ""


def mapped(field: str, native: str, value: Any, note: str = "") -> Entry:
    return Entry(field=field, status="mapped", native=native, value=value, note=note)


def runner(field: str, note: str) -> Entry:
    return Entry(field=field, status="runner", note=note)


def refused(field: str, note: str) -> Entry:
    return Entry(field=field, status="refused", note=note)


def kept_checkpoints(recipe: Recipe, native: str) -> Entry:
    """`checkpoint.keep`; the backend keeps all that are to be scored, and the runner removes them after that."""
    if recipe.eval.of_checkpoints:
        return mapped("checkpoint.keep", native, None, "all, until they are scored; then the runner removes the old")
    return mapped("checkpoint.keep", native, recipe.checkpoint.keep)


def refusals(entries: Iterable[Entry], loaded: LoadedRecipe) -> list[Problem]:
    """A problem for each refused field that the recipe gives with another value than the schema's default."""
    defaults = {name: leaf.get("default") for name, leaf in schema.leaves().items()}
    found = []
    for entry in entries:
        if entry.status == "refused":
            for path, value in _given(loaded.document.value, entry.field):
                if value != defaults.get(entry.field):
                    found.append(loaded.document.problem(path, entry.note))
    return found


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


def plain(value: Any) -> Any:
    """Tuples and read-only mappings as lists and dicts, for YAML, JSON and comparison."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def runner_fields() -> list[Entry]:
    """The fields that the runner handles in one way for every backend."""
    prepared = "data preparation"
    return [
        runner("name", "the run's directory"),
        runner("description", "shown by `recipe list`"),
        runner("backend", "chooses the adapter"),
        runner("model.revision", "the snapshot that is loaded"),
        runner("model.chat_template", prepared),
        runner("model.chat_template_kwargs", prepared),
        *(
            runner(f"data.{place}[].{leaf}", prepared)
            for place in ("train", "validation.sources")
            for leaf in ("path", "format", "split", "subset", "revision", "columns", "system", "max_samples")
        ),
        *(
            runner(f"data.{leaf}", prepared)
            for leaf in (
                "validation.fraction",
                "max_length",
                "overlong",
                "train_on",
                "test_prompts",
                "on_bad_row",
                "seed",
            )
        ),
        *(
            runner(f"eval.{leaf}", "scores the finished run")
            for leaf in (
                *("suites", "base", "max_samples", "max_new_tokens", "data", "longbench_subsets", "engine", "scorer"),
                *("judge.base_url", "judge.model", "judge.key_env"),
            )
        ),
        *(
            runner(f"eval.{leaf}", "scores saved checkpoints")
            for leaf in ("every", "mode", "devices", "combined_score", "patience", "best_model")
        ),
    ]
