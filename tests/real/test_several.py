"""Several recipes in one command: all are prepared before the first trains, and compared at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes import load
from tests.real.conftest import Recipe, steps

pytestmark = pytest.mark.real


def second(tmp_path: Path, rows: str) -> str:
    """Another recipe, of rows of its own."""
    (tmp_path / "rows.jsonl").write_text(rows)
    text = load("quickstart").source.decode().replace("data/finance_qa.jsonl", "rows.jsonl")
    (tmp_path / "second.yaml").write_text(text.replace("name: quickstart", "name: second"))
    return "second.yaml"


def settings(model: Path) -> list[str]:
    given = (f"model.path={model}", "training.max_steps=1", "training.global_batch_size=2",
             "training.micro_batch_size=1", "checkpoint.every=1", "eval.loss_every=null", "eval.suites=[perplexity]",
             "data.train[0].max_samples=20")  # fmt: skip
    return [part for field in given for part in ("--set", field)]


def test_a_mistake_in_the_last_is_found_before_the_first_trains(
    recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    file = second(tmp_path, '{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n')
    said = recipe("run", "quickstart", file, *settings(tiny_model), code=2).stderr
    assert "second: " in said and "rows.jsonl:2: no 'output'" in said and "nothing was trained: 1 of 2" in said
    assert "step 1/1" not in said and list((tmp_path / "runs").iterdir()) == []


def test_a_mistake_in_a_suites_own_rows_is_found_before_the_training(
    recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": "a", "response": "b"}\n\n{"prompt": "a"}\n')
    said = recipe("run", "quickstart", *settings(tiny_model), "--set", "eval.data.perplexity=own.jsonl", code=2).stderr
    assert "own.jsonl:3: " in said and "step 1/1" not in said


def test_all_are_trained_and_compared(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"instruction": f"What is {n}?", "output": f"It is {n}."}) + "\n" for n in range(20))
    done = recipe("run", "quickstart", second(tmp_path, rows), *settings(tiny_model))
    runs = [Path(line) for line in done.stdout.splitlines()[-2:]]
    assert [run.name for run in runs] == ["quickstart", "second"] and all(steps(run) == [1] for run in runs)
    assert all(json.loads((run / "run.json").read_text())["state"] == "succeeded" for run in runs)
    assert done.stderr.index("second:") < done.stderr.index("step 1/1"), "the second is prepared before any trains"
    found = json.loads((tmp_path / "runs/evaluation_results.json").read_text())
    assert {"quickstart", "second"} <= found.keys()
