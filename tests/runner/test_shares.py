"""`data.max_samples`: so many rows of all sources together, each source by its share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recipes import load
from recipes.errors import UserError
from recipes.schema import schema, with_defaults
from recipes.typed import from_json, to_json
from recipes.types import Data
from runner.data.read import read
from runner.data.shares import limited, shares
from runner.data.spec import source_of
from tests.conftest import MINIMAL


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True))
def test_shares_are_in_proportion_to_the_rows(counts: list[int], part: float) -> None:
    rows, sources = sum(counts), len(counts)
    assume(rows > sources)
    most = sources + int(part * (rows - sources))
    found = shares(counts, most)
    assert sum(found) == most
    for share, count in zip(found, counts, strict=True):
        assert 1 <= share <= count
        assert abs(share - 1 - (count - 1) * (most - sources) / (rows - sources)) < 1


def data(directory: Path, most: int | None, **fields: object) -> Data:
    sources = []
    for name, rows in (("a", 30), ("b", 10), ("c", 1)):
        (directory / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": f"{name}{n}"}) + "\n" for n in range(rows))
        )
        sources.append(to_json(source_of(directory / f"{name}.jsonl", **fields)))
    given_data = {"train": sources, "max_length": 9, "max_samples": most}
    return from_json(Data, with_defaults(given_data, schema()["properties"]["data"]))


def rows(one: Data) -> list[str]:
    return [row.value["text"] for source in one.train for row in read(source, seed=one.seed)]


def test_each_source_gives_its_first_rows(tmp_path: Path) -> None:
    assert rows(limited(data(tmp_path, 9))) == [*(f"a{n}" for n in range(6)), "b0", "b1", "c0"]
    for most in (None, 41, 99):
        assert len(rows(limited(data(tmp_path, most)))) == 41


def test_a_sources_own_limit_comes_first(tmp_path: Path) -> None:
    assert rows(limited(data(tmp_path, 9, max_samples=2))) == ["a0", "a1", "b0", "b1", "c0"]
    some = rows(limited(data(tmp_path, 8, max_samples=0.5, shuffle=True)))
    assert [sum(name in one for one in some) for name in "abc"] == [5, 2, 1] and some[:5] != [f"a{n}" for n in range(5)]


def test_fewer_rows_than_sources_are_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(MINIMAL + "    - path: org/more\n")
    with pytest.raises(UserError, match=r"data.max_samples: 1 rows of 2 sources: at least one of each"):
        load(str(recipe), ["data.max_samples=1"])
    assert load(str(recipe), ["data.max_samples=2"]).recipe.data.max_samples == 2
