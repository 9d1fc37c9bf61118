"""Frozen dataclasses to JSON values and back, so that what crosses a process or a file has a type on both sides.

Our own, in the standard library alone, because it runs in every backend's environment, `--env current` included.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from recipes.errors import did_you_mean
from recipes.files import read_json, write_json

T = TypeVar("T")


class Mismatch(ValueError):
    """A JSON value is not what its type says; the message names the place."""


def to_json(value: Any) -> Any:
    """Plain JSON values: dataclasses and mappings as dicts, tuples as lists, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_json(kind: type[T], value: Any, place: str = "") -> T:
    """`value` as `kind`: a dataclass, or anything that its fields' annotations name. Mappings become read-only.

    Raises:
        Mismatch: a key is unknown or missing, or a value is of another type.
    """
    made: T = _build(kind, value, place)
    return made


def read_typed(kind: type[T], path: Path) -> T:
    """The dataclass in a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, is not JSON, or not of this type (Mismatch).
    """
    return from_json(kind, read_json(path))


def write_typed(path: Path, value: Any) -> None:
    """Write a dataclass as JSON, whole or not at all."""
    write_json(path, to_json(value))


def _build(kind: Any, value: Any, place: str) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, place)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, place)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise _mismatch(place, " or ".join(map(repr, arguments)), value)
    if origin in (tuple, list):
        return _sequence(origin, arguments, value, place)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _mismatch(place, "a mapping", value)
        items = {key: _build(arguments[1], item, f"{place}.{key}") for key, item in value.items()}
        return items if origin is dict else types.MappingProxyType(items)
    return _scalar(kind, value, place)


def _dataclass(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise _mismatch(place, "a mapping", value)
    hints = _hints(kind)
    for key in value:
        if key not in hints:
            raise Mismatch(f"{_dotted(place, key)}: unknown key{did_you_mean(str(key), hints)}")
    given = {name: _build(hint, value[name], f"{place}.{name}") for name, hint in hints.items() if name in value}
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.name not in given
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise Mismatch(f"{_dotted(place, missing[0])}: missing")
    return kind(**given)


def _one_of(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """The first kind that the value fits; an int is not tried as a float where int is allowed too."""
    exact = [kind for kind in kinds if kind is type(value)]
    failures = []
    for kind in exact or kinds:
        try:
            return _build(kind, value, place)
        except Mismatch as error:
            failures.append(error)
    nested = [error for error in failures if not str(error).startswith(f"{_dotted(place)}: expected")]
    raise nested[0] if nested else _mismatch(place, " or ".join(map(_named, kinds)), value)


def _sequence(origin: Any, arguments: tuple[Any, ...], value: Any, place: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _mismatch(place, "a list", value)
    if origin is list or arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(value)
    elif len(arguments) == len(value):
        kinds = list(arguments)
    else:
        raise _mismatch(place, f"a list of {len(arguments)}", value)
    return origin(_build(kind, item, f"{place}[{n}]") for n, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _scalar(kind: Any, value: Any, place: str) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise _mismatch(place, "a finite number", value) from None
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if (kind is types.NoneType and value is None) or (type(value) is kind):
        if isinstance(value, float) and not math.isfinite(value):
            raise _mismatch(place, "a finite number", value)  # no JSON, and never written
        return value
    raise _mismatch(place, _named(kind), value)


def _named(kind: Any) -> str:
    return "nothing" if kind is types.NoneType else getattr(kind, "__name__", str(kind))


def _mismatch(place: str, expected: str, value: Any) -> Mismatch:
    shown = repr(value)
    return Mismatch(f"{_dotted(place)}: expected {expected}, got {shown if len(shown) <= 60 else shown[:59] + '…'}")


def _dotted(place: str, key: Any = "") -> str:
    return f"{place}.{key}".strip(".") or "the value"


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
