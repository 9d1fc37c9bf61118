"""Results and records that no evaluation left, of a received run or a torn disk: named, and never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.cli import main
from tests.runner.test_compare import scored

Place = tuple[str | int, ...]
HUGE = 10**400  # an integer that is no float
DEEP = "[" * 100_000
RECORDS = ("perplexity.jsonl", "generation.jsonl", "reference.jsonl")
ODD = [
    None, True, "x", "", "\u202e<script>\x1b", "../../x", 0, -1, 1e308, -1e308, HUGE, 1e-320, float("nan"), [], {}, [1],
    {"a": 1}, ["x"], {"content": 3}, [{"role": "user"}], [[[[[]]]]], json.loads("[" * 200 + "]" * 200),
]  # fmt: skip
REMOVED = "removed"


def both(runs: Path) -> Path:
    """Two scored runs; the directory of the first one's evaluation."""
    scored(runs, "a", -1.0)
    scored(runs, "b", -0.5, "tuning.rank=4")
    return runs / "a" / "eval"


def read(file: Path) -> list[Any]:
    """The JSON values of a file, one a line or one in all."""
    text = file.read_text()
    return [json.loads(text)] if file.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Each place within a JSON value; of a list, of its first two items."""
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def put(value: Any, place: Place, new: object) -> None:
    for key in place[:-1]:
        value = value[key]
    if new == REMOVED:
        del value[place[-1]]
    else:
        value[place[-1]] = new


@settings(max_examples=40)
@given(name=st.sampled_from(["results.json", *RECORDS]), new=st.sampled_from([REMOVED, *ODD]), data=st.data())
def test_whatever_stands_in_an_evaluation_is_read_or_named(
    name: str, new: object, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = tmp_path_factory.mktemp("runs")
    file = both(runs) / name
    values = read(file)
    value = data.draw(st.sampled_from(values[:3]))
    put(value, data.draw(st.sampled_from(list(places(value)))), new)
    file.write_text("".join(json.dumps(one) + "\n" for one in values))
    assert main(["compare", "a", "b", "--alone", "--no-base", "--runs-dir", str(runs)]) in (0, 2)
    assert main(["runs", "--runs-dir", str(runs)]) == main(["runs", "a", "--runs-dir", str(runs)]) == 0


@pytest.mark.parametrize(
    ("name", "place", "new", "said"),
    [
        ("perplexity.jsonl", ("tokens",), REMOVED, ":1: tokens is None, not a number"),
        ("perplexity.jsonl", ("tokens",), None, ":1: tokens is None, not a number"),
        ("perplexity.jsonl", ("tokens",), -3, ":1: tokens is -3, not a count"),
        ("perplexity.jsonl", ("nll",), HUGE, ":1: nll is 1000"),
        ("perplexity.jsonl", ("nll",), 1e308, ":1: nll is 1e+308, not a number"),
        ("generation.jsonl", ("prompt",), 3, ":1: prompt is 3, not what a model is asked"),
        ("generation.jsonl", ("prompt",), "text", ":1: prompt is 'text', not what a model is asked"),
        ("generation.jsonl", ("prompt",), [{"role": "user"}], ":1: prompt is [{'role': 'user'}], not what"),
        ("generation.jsonl", ("prompt",), [None], ":1: prompt is [None], not what"),
        ("generation.jsonl", ("reference",), 3, ":1: reference is 3, not a text"),
        ("results.json", ("metrics", "perplexity", "value"), HUGE, "metrics.perplexity.value: expected"),
        ("results.json", ("metrics", "perplexity", "ci95"), [-1e308, 1e308], ": metrics.perplexity: expected numbers"),
        ("results.json", ("metrics", "perplexity", "n"), HUGE, ": metrics.perplexity: expected counts of samples"),
        ("results.json", ("provenance", "run", "x"), float("nan"), ": provenance: expected finite numbers"),
        ("results.json", ("provenance", "suites", "perplexity", "settings", "lower_is_better"), 5, "a list of texts"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_no_evaluation_writes_is_named_by_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, place: Place, new: object, said: str
) -> None:
    file = both(tmp_path) / name
    values = read(file)
    put(values[0], place, new)
    file.write_text("".join(json.dumps(one) + "\n" for one in values))
    assert main(["compare", "a", "b", "--runs-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(file) in error and said in error


def test_one_damaged_run_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the list of runs, and in a comparison of all of them."""
    directory = both(tmp_path)
    scored(tmp_path, "c", -0.7, "tuning.rank=2")
    (tmp_path / "b" / "eval" / "eval_step_best").mkdir()
    (tmp_path / "b" / "eval" / "eval_step_best" / "results.json").write_text("{}")
    for name, content in (("results.json", DEEP), ("perplexity.jsonl", "{}\n")):
        before = (directory / name).read_text()
        (directory / name).write_text(content)
        assert main(["runs", "--runs-dir", str(tmp_path)]) == main(["runs", "b", "--runs-dir", str(tmp_path)]) == 0
        assert main(["compare", "--runs-dir", str(tmp_path)]) == 0
        said = capsys.readouterr()
        assert "b is better than base" in said.out and f"left out: {directory / name}:" in said.err
        (directory / name).write_text(before)


def test_a_metric_of_longbench_without_a_subset_has_no_samples(tmp_path: Path) -> None:
    file = both(tmp_path) / "results.json"
    (content,) = read(file)
    content["metrics"]["longbench"] = content["metrics"]["perplexity"]
    file.write_text(json.dumps(content))
    assert main(["compare", "a", "b", "--runs-dir", str(tmp_path)]) == 0
