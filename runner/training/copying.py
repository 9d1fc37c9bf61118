"""Copies a recipe to a file of the user's own, which means the same from there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from recipes import LoadedRecipe, Recipe, UserError, load_text
from recipes.edit import edited
from recipes.load import CATALOGUE
from recipes.paths import anchored
from recipes.stages import HEAD
from recipes.yaml_text import Path as FieldPath
from recipes.yaml_text import dump, parse

Value = Any  # of a recipe, as YAML has it
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
SCHEMA = "# yaml-language-server: $schema="


def copy_recipe(loaded: LoadedRecipe, output: Path | None) -> Path:
    """Write a copy with the overrides in it; local paths become absolute, and its name that of the file.

    Raises:
        UserError: the file is there already, cannot be written, or has a name that no recipe has.
    """
    stage = loaded.source.startswith(HEAD.encode())
    target = output or Path(f"{loaded.recipe.name if stage else loaded.path.stem}.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise UserError(f"{target}: a recipe's file ends in .yaml or .yml")
    text = copied(loaded, target)
    try:
        with target.open("x", encoding="utf-8") as stream:  # never over another
            stream.write(text)
    except FileExistsError:
        raise UserError(f"{target}: is there already; name another file with -o, or remove it") from None
    except OSError as error:
        raise UserError(f"{target}: {error.strerror}") from None
    return target


def copied(loaded: LoadedRecipe, target: Path) -> str:
    """The copy's text, which is read again: it must mean what the recipe means with its overrides.

    Where the text cannot be changed as it stands (aliases, a list that an override makes longer), the copy is written
    anew, without the comments between its fields.
    """
    values, given = loaded.document.value, loaded.document.overrides
    changes: dict[FieldPath, Value] = {}
    if target.absolute().parent != loaded.path.absolute().parent:
        written = parse(loaded.source, str(loaded.path)).value
        found = _elsewhere(written, (), loaded.path.parent)
        changes = {path: value for path, value in found if not any(path[: len(other)] == other for other in given)}
    changes |= {path: _at(values, path) for path in given if _has(values, path)}
    name = loaded.recipe.name
    if ("name",) not in given and re.fullmatch(NAME, target.stem):
        name = target.stem
    if "name" in values or name != target.stem:
        changes["name",] = name
    source = _schema(loaded.source.decode("utf-8-sig"))
    if source.startswith(HEAD):  # the copy is a recipe by itself
        source = source.partition("\n")[2]
    text = edited(source, changes)
    return text if _means(text, target, replace(loaded.recipe, name=name)) else _anew(source, loaded, name)


def _schema(text: str) -> str:
    """The text with the place of the schema, which editors look up, where it is found from anywhere."""
    return text.replace(f"{SCHEMA}recipe.schema.json", f"{SCHEMA}{CATALOGUE / 'recipe.schema.json'}", 1)


def _elsewhere(value: Value, path: FieldPath, root: Path) -> Iterator[tuple[FieldPath, Value]]:
    """The local paths of a recipe that are relative to it, absolute."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _elsewhere(item, (*path, key), root)
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from _elsewhere(item, (*path, n), root)
    elif anchored(path, value, root) != value:
        yield path, anchored(path, value, root)


def _at(value: Value, path: FieldPath) -> Value:
    for part in path:
        value = value[part]
    return value


def _has(value: Value, path: FieldPath) -> bool:
    """Whether a later override has left this one's place there."""
    try:
        _at(value, path)
    except (KeyError, IndexError, TypeError):
        return False
    return True


def _means(text: str, target: Path, wanted: Recipe) -> bool:
    try:
        return load_text(text.encode(), target).recipe == wanted
    except UserError:
        return False


def _anew(source: str, loaded: LoadedRecipe, name: str) -> str:
    head = "".join(f"{line}\n" for line in takewhile(lambda line: line.startswith("#"), source.splitlines()))
    body = dump({**loaded.complete(), "name": name})
    return head + body
