"""The schema: complete, described, and equal to the types, the backends and the suites."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import jsonschema

from adapters import BACKENDS
from recipes import schema
from recipes.methods import METHODS
from recipes.suites import SUITES
from recipes.types import Recipe


def type_leaves(kind: Any, name: str = "") -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, path = hints[field.name], f"{name}.{field.name}".removeprefix(".")
        inner = next((a for a in typing.get_args(hint) if dataclasses.is_dataclass(a)), None)
        if dataclasses.is_dataclass(hint):
            yield from type_leaves(hint, path)
        elif inner:
            yield from type_leaves(inner, f"{path}[]")
        else:
            yield path


def test_the_types_have_every_leaf_of_the_schema_and_no_other() -> None:
    assert sorted(schema.leaves()) == sorted(type_leaves(Recipe))


def test_every_leaf_has_a_description() -> None:
    assert [name for name, leaf in schema.leaves().items() if not leaf.get("description")] == []


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())


def test_lists_that_stand_twice_are_equal() -> None:
    leaves = schema.leaves()
    assert leaves["backend"]["enum"] == list(BACKENDS)
    assert leaves["method"]["enum"] == list(METHODS)
    assert schema.schema()["$defs"]["suite"]["enum"] == list(SUITES)


def test_every_data_format_of_the_schema_is_implemented() -> None:
    from runner.data.formats import FORMATS

    in_schema = schema.leaves()["data.train[].format"]["enum"]
    assert in_schema == ["auto", *FORMATS]
    assert {name for method in METHODS.values() for name in method.rows.formats} == set(FORMATS)


def test_every_default_is_allowed_by_its_own_schema() -> None:
    for name, leaf in schema.leaves().items():
        if "default" in leaf:
            jsonschema.validate(leaf["default"], leaf), name
