"""Several trainings by one command, for real: seeds, stages and sweeps, killed in the middle and gone on with."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.machine.process import clean_environment
from tests.real.conftest import Recipe, losses, steps

pytestmark = pytest.mark.real
SMALL = ("training.global_batch_size=2", "training.micro_batch_size=1", "checkpoint.every=2", "eval.loss_every=null",
         "tuning={type: lora, rank: 4, dropout: 0.1}")  # fmt: skip


def settings(model: Path, *more: str) -> list[str]:
    return [part for field in (f"model.path={model}", *SMALL, *more) for part in ("--set", field)]


def killed_at_step(directory: Path, run: Path, step: int, *arguments: str) -> None:
    """Start a command and kill it, its runner alone, once a run's metrics have that step."""
    child = subprocess.Popen(
        [sys.executable, "-m", "runner.cli", *arguments], cwd=directory,
        env=clean_environment({"PYTHONPATH": str(Path(__file__).parents[2])}),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 400
        while not (run / "metrics.jsonl").is_file() or step not in steps(run):
            assert time.monotonic() < until and child.poll() is None, child.communicate(timeout=30)[1]
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.communicate(timeout=60)


def weights(run: Path) -> bytes:
    return (run / "model/adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_seeds_killed_in_the_second_go_on(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """The first seed's run is left as it is; the second ends as the same training by itself does, bit for bit."""
    given = settings(tiny_model, "training.max_steps=12", "eval.suites=[perplexity]", "data.train[0].max_samples=40")
    first, second = (tmp_path / f"runs/quickstart-seed-{seed}" for seed in (3, 4))
    killed_at_step(tmp_path, second, 3, "run", "quickstart", "--seeds", "3,4", *given)
    before, kept = weights(first), (first / "eval/results.json").read_bytes()
    assert json.loads((second / "run.json").read_text())["state"] == "running"
    done = recipe("run", "quickstart", "--seeds", "3,4", *given)
    assert done.stdout.splitlines() == [str(first), str(second)]
    assert "quickstart-seed-3 has succeeded, and is taken as it is" in done.stderr
    assert weights(first) == before and (first / "eval/results.json").read_bytes() == kept
    assert steps(second) == list(range(1, 13)) and len(json.loads((second / "run.json").read_text())["attempts"]) == 2
    recipe("run", "quickstart", "--name", "alone", "--no-eval", "--set", "training.seed=4", *given)
    assert weights(second) == weights(tmp_path / "runs/alone") != weights(first)
    for file in ("train.jsonl", "validation.jsonl"):
        assert (first / "data" / file).read_bytes() == (second / "data" / file).read_bytes()
    found = json.loads((tmp_path / "runs/report.json").read_text())
    assert found["seeds"]["quickstart (seeds 3, 4)"]["models"] == {
        "3": "quickstart-seed-3", "4": "quickstart-seed-4",
    }  # fmt: skip
    assert [one["other"] for one in found["comparisons"]] == ["quickstart (seeds 3, 4)"]
    said = recipe("run", "quickstart", "--seeds", "3", *given, "--set", "training.max_steps=3", code=2).stderr
    assert "training.max_steps: 12 there, 3 asked for" in said


def test_stages_killed_in_the_second_go_on(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """DPO trains the adapter of SFT further, which is its reference model, and ends as it does without a kill."""
    given = settings(
        tiny_model, "tuning.dropout=0", "stages[0].training.max_steps=4", "stages[1].training.max_steps=8",
        "stages[1].training.learning_rate=1e-4",
    )  # fmt: skip
    sft, dpo = (tmp_path / f"runs/finance_sft_dpo-{stage}" for stage in ("sft", "dpo"))
    killed_at_step(tmp_path, dpo, 3, "run", "finance_sft_dpo", *given)
    before = weights(sft)
    done = recipe("run", "finance_sft_dpo", *given)
    assert done.stdout.splitlines() == [str(sft), str(dpo)]
    assert "finance_sft_dpo-sft has succeeded, and is taken as it is" in done.stderr
    assert weights(sft) == before and steps(sft) == [1, 2, 3, 4] and steps(dpo) == list(range(1, 9))
    assert losses(dpo)[0] == pytest.approx(math.log(2), abs=1e-4)
    parent = json.loads((dpo / "run.json").read_text())["parent"]
    assert (parent["kind"], parent["run"], parent["path"]) == ("adapter", str(sft), str(sft / "model"))
    assert {"perplexity", "preference"} <= {path.stem for run in (sft, dpo) for path in (run / "eval").glob("*.jsonl")}
    recipe("run", "finance_sft_dpo:dpo", "--from", "finance_sft_dpo-sft", "--name", "alone", "--no-eval", *given)
    assert weights(dpo) == weights(tmp_path / "runs/alone")
    again = recipe("run", "finance_sft_dpo", *given)
    assert again.stderr.count("has succeeded, and is taken as it is") == 2


BETWEEN = "  - {name: between, method: eval, eval: {suites: [perplexity], max_samples: 3, base: false}}\n"
FINAL = "  - {name: final, method: eval, eval: {suites: [preference, generation], max_samples: 2, max_new_tokens: 4}}\n"


def measured(directory: Path) -> dict[str, tuple[float, int]]:
    found = json.loads((directory / "results.json").read_text())["metrics"]
    return {name: (one["value"], one["n"]) for name, one in found.items() if name != "generation.seconds"}


@pytest.mark.slow
def test_stages_that_only_score_leave_what_recipe_eval_leaves(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """In directories of their own, without a run; the training behind one begins with what was trained before it."""
    text = (Path(__file__).parents[2] / "recipes/finance_sft_dpo.yaml").read_text().replace("finance_sft_dpo", "mine")
    text = text.replace("path: data/", f"path: {Path(__file__).parents[2] / 'recipes/data'}/")
    (tmp_path / "mine.yaml").write_text(text.replace("  - name: dpo", f"{BETWEEN}  - name: dpo") + FINAL)
    given = settings(tiny_model, "stages[0].training.max_steps=4", "stages[2].training.max_steps=4")
    runs = tmp_path / "runs"
    done = recipe("run", "mine.yaml", *given)
    assert done.stdout.splitlines() == [str(runs / "mine-sft"), str(runs / "mine-dpo")]
    assert json.loads((runs / "mine-dpo/run.json").read_text())["parent"]["run"] == str(runs / "mine-sft")
    assert not list(runs.glob("mine-[bf]*/run.json")) and (runs / "mine-final/report.html").is_file()
    assert not (runs / "mine-between/mine-sft/base").exists() and (runs / "mine-final/mine-dpo/base").is_dir()
    for stage, run, words in (
        ("between", "mine-sft", ["perplexity", "--max-samples", "3"]),
        ("final", "mine-dpo", ["preference", "generation", "--max-samples", "2", "--max-new-tokens", "4"]),
    ):
        recipe("eval", run, "--output", f"by-hand-{stage}", "--suites", *words)
        found = measured(runs / f"mine-{stage}" / run)
        assert found == measured(tmp_path / f"by-hand-{stage}" / run) and found
    own = measured(runs / "mine-sft/eval")["perplexity"]
    assert own[1] > 3 == measured(runs / "mine-between/mine-sft")["perplexity"][1], "the run's own scores stay"
    before = (runs / "mine-final/mine-dpo/results.json").read_bytes()
    again = recipe("run", "mine.yaml", *given).stderr
    assert again.count("has been scored, and is taken as it is") == 2 and "scoring" not in again
    assert (runs / "mine-final/mine-dpo/results.json").read_bytes() == before
    # Cut short, it is scored again; of another evaluation, it is refused.
    told = json.loads((runs / "mine-final/scored.json").read_text())
    (runs / "mine-final/scored.json").write_text(json.dumps({**told, "ended": False}))
    assert "mine-final: scoring mine-dpo" in recipe("run", "mine.yaml", *given).stderr
    assert json.loads((runs / "mine-final/scored.json").read_text()) == told
    other = ["--set", "stages[3].eval.max_samples=3"]
    assert "its `eval` was another" in recipe("run", "mine.yaml", *given, *other, code=2).stderr
    alone = recipe("run", "mine.yaml:final", "--from", "mine-sft", "--name", "of-sft", *given).stderr
    assert "preference is left out: sft rows have no chosen" in alone and (runs / "of-sft/report.html").is_file()
    assert recipe("run", "mine.yaml:between", "--from", "mine-sft", "--name", "x", *given).stdout.split()[-1] == str(
        runs / "x"
    )
    assert measured(runs / "x/mine-sft") == measured(runs / "mine-between/mine-sft")


def test_rows_of_the_second_stage_are_read_before_the_first_trains(
    recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a"}\n')
    pairs = "stages[1].data.train=[{path: pairs.jsonl, format: preference}]"
    said = recipe("run", "finance_sft_dpo", *settings(tiny_model, pairs), code=2).stderr
    assert "stage finance_sft_dpo:dpo: nothing was trained:" in said and "pairs.jsonl:2" in said
    assert "step 1/" not in said and not list((tmp_path / "runs").glob("*"))


@pytest.mark.slow
def test_a_sweep_killed_in_the_second_trial_goes_on(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """What has ended is not repeated; the best by its results is the best, and its recipe trains the same weights."""
    given = settings(tiny_model, "training.max_steps=12", "eval.suites=[perplexity]", "data.train[0].max_samples=40")
    command = ["sweep", "quickstart", "--name", "s", "--grid", "training.learning_rate=1e-2,1e-6", *given]
    first, second = (tmp_path / f"runs/s-{number}" for number in (1, 2))
    killed_at_step(tmp_path, second, 3, *command)
    before = weights(first)
    done = recipe(*command)
    assert weights(first) == before and "trial 1" not in done.stderr and steps(second) == list(range(1, 13))
    assert len(json.loads((second / "run.json").read_text())["attempts"]) == 2
    scores = [
        json.loads((run / "eval/results.json").read_text())["metrics"]["perplexity"]["value"] for run in (first, second)
    ]
    best = (first, second)[scores.index(min(scores))]
    found = json.loads((tmp_path / "runs/sweeps/s/sweep.json").read_text())
    assert f"s-{found['best']}" == best.name
    assert [trial["score"] for trial in found["trials"]] == pytest.approx([-score for score in scores])
    file = done.stdout.splitlines()[-1]
    assert file == str(tmp_path / "runs/sweeps/s/best.yaml") and "ok" in recipe("validate", file).stdout
    recipe("run", file, "--no-eval")
    assert weights(tmp_path / "runs/s-best") == weights(best)
    assert "trial" not in recipe(*command).stderr.replace("best: trial", "")


@pytest.mark.slow
def test_optuna_chooses_and_prunes_and_goes_on_after_a_kill(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """A pruned trial is one whose score was below the median of the others' best by then; none is drawn anew."""
    given = settings(
        tiny_model, "training.max_steps=4", "eval.suites=[perplexity]", "eval.every=2", "eval.mode=pause",
        "eval.base=false", "data.train[0].max_samples=40",
    )  # fmt: skip
    command = ["sweep", "quickstart", "--name", "s", "--trials", "7", "--seed", "3", *given]
    command += ["--range", "training.learning_rate=1e-6..1e-1:log"]
    killed_at_step(tmp_path, tmp_path / "runs/s-2", 1, *command)
    file = tmp_path / "runs/sweeps/s/sweep.json"
    drawn = [trial["values"] for trial in json.loads(file.read_text())["trials"]]
    assert len(drawn) == 2
    said = recipe(*command)
    found = json.loads(file.read_text())
    assert [trial["values"] for trial in found["trials"][:2]] == drawn and len(found["trials"]) == 7
    histories = {
        trial["run"]: {
            one["step"]: one["combined_score"]
            for one in json.loads((tmp_path / "runs" / trial["run"] / "eval/eval_history.json").read_text())["history"]
        }
        for trial in found["trials"]
    }
    states = [trial["state"] for trial in found["trials"]]
    assert states[:5] == ["succeeded"] * 5, "the first five are never pruned"
    assert "pruned" in states and "pruned)" in said.stderr
    for place, trial in enumerate(found["trials"]):
        before = [one for one in found["trials"][:place] if one["state"] == "succeeded"]
        own = histories[trial["run"]]
        if trial["state"] == "pruned":
            (step,) = own
            others = sorted(histories[one["run"]][step] for one in before)
            middle = others[(len(others) - 1) // 2], others[len(others) // 2]
            assert own[step] < sum(middle) / 2
            assert steps(tmp_path / "runs" / trial["run"]) == [1, 2]
            assert trial["score"] == own[step]
        else:
            assert list(own) == [2, 4]
    assert found["importance"] == {"training.learning_rate": 1.0}
    assert found["best"] in [trial["number"] for trial in found["trials"] if trial["state"] == "succeeded"]
