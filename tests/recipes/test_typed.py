"""Dataclasses cross a file unchanged, and what is not of their type is named by its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.typed import Mismatch, from_json, to_json


@dataclass(frozen=True)
class Inner:
    number: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    count: int | None
    pair: tuple[int, float]
    inners: tuple[Inner, ...] = ()
    by_name: Mapping[str, Inner | None] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)
    value: str | int | float | bool | None = None
    path: Path = Path()


inners = st.builds(Inner, st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["a", "b"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
outers = st.builds(
    Outer,
    name=st.text(),
    count=st.none() | st.integers(),
    pair=st.tuples(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    inners=st.lists(inners, max_size=3).map(tuple),
    by_name=st.dictionaries(st.text(), st.none() | inners, max_size=3),
    free=st.dictionaries(st.text(), scalars, max_size=3),
    value=scalars,
    path=st.sampled_from([Path("a/b"), Path("/x")]),
)


@given(outers)
def test_what_is_written_is_read_back_equal(value: Outer) -> None:
    assert from_json(Outer, json.loads(json.dumps(to_json(value)))) == value


GOOD = {"name": "n", "count": 1, "pair": [1, 2.0], "inners": [{"number": 1}], "by_name": {"x": {"number": 2}}}


@pytest.mark.parametrize(
    "change,message",
    [
        ({"nam": "n"}, "nam: unknown key; did you mean 'name'?"),
        ({"name": 3}, "name: expected str, got 3"),
        ({"count": True}, "count: expected int or nothing, got True"),
        ({"count": "1"}, "count: expected int or nothing, got '1'"),
        ({"pair": [1, float("nan")]}, "pair[1]: expected a finite number, got nan"),
        ({"inners": [{"number": float("-inf")}]}, "inners[0].number: expected a finite number, got -inf"),
        ({"pair": [1, 10**400]}, "pair[1]: expected a finite number, got 1000"),
        ({"pair": [1]}, "pair: expected a list of 2, got [1]"),
        ({"inners": [{"number": "x"}]}, "inners[0].number: expected float, got 'x'"),
        ({"inners": [{"number": 1, "kind": "c"}]}, "inners[0].kind: expected 'a' or 'b', got 'c'"),
        ({"inners": [{}]}, "inners[0].number: missing"),
        ({"by_name": {"x": {"numbr": 2}}}, "by_name.x.numbr: unknown key; did you mean 'number'?"),
        ({"free": []}, "free: expected a mapping, got []"),
    ],
)
def test_what_is_of_another_type_is_named_by_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        from_json(Outer, GOOD | change)
    assert str(caught.value).startswith(message)


def test_a_missing_key_is_never_guessed() -> None:
    with pytest.raises(Mismatch, match=r"^name: missing$"):
        from_json(Outer, {key: value for key, value in GOOD.items() if key != "name"})
