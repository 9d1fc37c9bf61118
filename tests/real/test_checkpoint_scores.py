"""Scoring checkpoints: in each mode the same scores, and the same weights as without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters import backend
from tests.real.conftest import Recipe, losses, steps
from tests.real.test_llamafactory_backend import start, wait_for_step

pytestmark = pytest.mark.real

EVERY = ["eval.every=2", "eval.suites=[perplexity]", "checkpoint.keep=1"]
Trained = Callable[..., Path]


@pytest.fixture
def trained(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> Trained:
    """Run six steps of the quickstart on the tiny model; returns the run's directory."""

    def call(name: str, *fields: str) -> Path:
        quick = (
            f"model.path={tiny_model}",
            "training.max_steps=6",
            "data.train[0].max_samples=60",
            "eval.loss_every=null",
        )
        given = [part for field in (*quick, "checkpoint.every=2", *fields) for part in ("--set", field)]
        recipe("run", "quickstart", "--no-eval", "--name", name, *given)
        return tmp_path / "runs" / name

    return call


def history(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "eval/eval_history.json").read_text())
    return found


def weights(run: Path) -> bytes:
    return (run / "model/adapter_model.safetensors").read_bytes()


def test_the_best_step_becomes_the_model_and_ends_the_training(trained: Trained, recipe: Recipe) -> None:
    """By a formula that likes the earliest checkpoint most; scores, losses and weights are those of a run in one go."""
    likes = [*EVERY[:-1], "eval.combined_score=perplexity"]
    whole = trained("whole", *likes, "checkpoint.keep=3", "eval.mode=after")
    expected = history(whole)
    assert [entry["step"] for entry in expected["history"]] == [2, 4, 6] and expected["best_step"] == 2
    run = trained("best", *likes, "checkpoint.keep=1", "eval.mode=pause", "eval.patience=1", "eval.best_model=true")
    manifest, found = json.loads((run / "run.json").read_text()), history(run)
    assert found["history"] == expected["history"][:2] and found["best_step"] == 2
    assert manifest["trained_steps"] == 4 and manifest["model_step"] == 2 and manifest["ended_early"] is True
    assert losses(run) == losses(whole)[:4] and len(manifest["attempts"]) == 2
    best = "checkpoints/checkpoint-2/adapter_model.safetensors"
    assert weights(run) == (run / best).read_bytes(), "it is kept, though older than checkpoint.keep"
    assert weights(run) == (whole / best).read_bytes()
    kept = {checkpoint.step for checkpoint in backend("llamafactory").checkpoints(run / "checkpoints")}
    assert kept == {2, 4}
    assert (run / "eval/eval_step_2/perplexity.jsonl").is_file() and not (run / "eval/eval_step_4/model").exists()

    recipe("eval", "best")
    final = json.loads((run / "eval/final_eval_results.json").read_text())
    assert final["best_step"] == final["model_step"] == 2
    assert final["results"]["tuned"]["perplexity"]["value"] == found["best_score"]
    assert (run / "eval/report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("other", ["pause", "concurrent"])
def test_each_mode_gives_the_same_scores_and_weights(other: str, trained: Trained) -> None:
    """After the training, the scoring cannot have changed it."""
    four = "training.max_steps=4"
    runs = {mode: trained(mode, four, *EVERY, f"eval.mode={mode}") for mode in ("after", other)}
    expected = history(runs["after"])
    assert [entry["step"] for entry in expected["history"]] == [2, 4]
    assert expected["best_step"] == 4 and expected["formula"] == "-perplexity"
    for mode, run in runs.items():
        assert history(run) == expected, mode
        assert weights(run) == weights(runs["after"]), mode
        assert steps(run) == [1, 2, 3, 4], mode
        kept = backend("llamafactory").checkpoints(run / "checkpoints")
        assert [checkpoint.step for checkpoint in kept] == [4], f"{mode}: what was scored and is not kept is removed"
        assert (run / "eval/eval_step_2/perplexity.jsonl").is_file() and not (run / "eval/eval_step_2/model").exists()
    assert len(json.loads((runs[other] / "run.json").read_text())["attempts"]) == (2 if other == "pause" else 1)


@pytest.mark.slow
def test_a_failing_evaluation_does_not_end_a_training(tiny_model: Path, tmp_path: Path) -> None:
    """The suite's rows are well when the training starts, and gone before they are asked for."""
    rows, run = tmp_path / "rows.jsonl", tmp_path / "runs/failing"
    rows.write_text('{"instruction": "What is a bond?", "output": "A loan."}\n')
    given = (f"model.path={tiny_model}", "data.train[0].max_samples=60", "training.max_steps=20", "eval.every=10",
             "eval.suites=[perplexity]", f"eval.data.perplexity={rows}", "eval.loss_every=null")  # fmt: skip
    settings = [part for field in given for part in ("--set", field)]
    runner = start(["run", "quickstart", "--no-eval", "--name", "failing", *settings], tmp_path)
    wait_for_step(run, 1, runner)
    rows.unlink()
    assert runner.wait(300) == 0
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["state"] == "succeeded" and steps(run) == list(range(1, 21))
    assert not (run / "eval/eval_history.json").exists()


def test_malformed_data_of_a_suite_is_named_before_the_training(
    recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "mc.json"
    rows.write_text('[{"question": "Is water wet?"}]')
    given = [f"model.path={tiny_model}", "eval.suites=[truthfulqa_mc]", f"eval.data.truthfulqa_mc={rows}"]
    done = recipe("run", "quickstart", *[part for field in given for part in ("--set", field)], code=2)
    assert "mc.json" in done.stderr and not (tmp_path / "runs/quickstart/metrics.jsonl").exists()


@pytest.mark.slow
def test_a_pause_on_verl_changes_nothing(trained: Trained) -> None:
    verl = ("backend=verl", "tuning.dropout=0.1", "training.max_steps=4")
    alone = trained("alone", *verl, "eval.suites=[]")
    run = trained("pause", *verl, *EVERY, "eval.mode=pause")
    assert [entry["step"] for entry in history(run)["history"]] == [2, 4]
    assert weights(run) == weights(alone)
    assert [c.step for c in backend("verl").checkpoints(run / "checkpoints")] == [4]
