"""Going on from any point, for real: from an earlier checkpoint, from another run, past the end of the schedule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Recipe, losses, metrics, steps

pytestmark = pytest.mark.real

# 22 rows are trained and 2 held out: three steps an epoch.
QUICK = ["data.train[0].max_samples=24", "eval.loss_every=2", "checkpoint.every=2", "checkpoint.keep=null"]
LORA = "tuning={type: lora, rank: 4, dropout: 0.1}"


def trains(name: str, model: Path, *overrides: str) -> list[str]:
    given = [f"model.path={model}", *QUICK, *overrides]
    return ["run", name, "--no-eval", *(part for text in given for part in ("--set", text))]


def weights(run: Path) -> bytes:
    return (run / "model/adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_from_an_earlier_checkpoint_it_ends_as_it_did(
    backend: str, recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    """Losses, validation losses and weights, bit for bit, with dropout; the first end is kept beside."""
    recipe(*trains("quickstart", tiny_model, f"backend={backend}", LORA, "training.max_steps=8"), "--name", "one")
    run = tmp_path / "runs/one"
    before, ended, checkpoints = metrics(run), weights(run), sorted(p.name for p in (run / "checkpoints").iterdir())
    assert "whole ones: 2, 4, 6, 8" in recipe("resume", "one", "--from", "5", code=2).stderr
    assert "nothing is left to train" in recipe("resume", "one", "--from", "8", code=2).stderr
    assert metrics(run) == before
    said = recipe("resume", "one", "--from", "4", "--no-eval").stderr
    assert "resuming from step 4" in said and "the metrics of 4 steps" in said
    found = json.loads((run / "run.json").read_text())
    assert found["state"] == "succeeded" and found["attempts"][-1]["resume_from"] == 4
    assert steps(run) == list(range(1, 9)) and weights(run) == ended
    timed = ("step_time_s", "tokens_per_s", "memory_gb")
    assert [{k: v for k, v in line.items() if k not in timed} for line in metrics(run)] == [
        {k: v for k, v in line.items() if k not in timed} for line in before
    ]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == checkpoints
    aside = run / "aside-1"
    assert weights(aside) == ended and len(losses(aside)) == 8
    assert sorted(
        int(p.name.rpartition("-" if backend == "llamafactory" else "_")[2]) for p in (aside / "checkpoints").iterdir()
    ) == [6, 8]


def content(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name not in (".lock", ".heartbeat")
    }


def test_a_resume_names_what_changed_and_asks(
    recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is touched before one agrees; what changes nothing needs no agreement, and changes nothing."""
    recipe(*trains("quickstart", tiny_model, LORA, "training.max_steps=4"), "--name", "one")
    run, back = tmp_path / "runs/one", ["resume", "one", "--from", "2", "--no-eval"]
    before, ended = content(run), weights(run)
    held = recipe(*back, "--set", "training.learning_rate=7e-3", "--accept", code=2).stderr
    assert "training.learning_rate: " in held and "recipe run RECIPE --from one" in held
    asked = recipe(*back, "--set", "training.scheduler=linear", code=2).stderr
    assert "training.scheduler: 'cosine' before, 'linear' now" in asked and "--accept" in asked
    with monkeypatch.context() as patch:
        patch.setenv("NPROC_PER_NODE", "2")
        assert "processes: 1 before, 2 now" in recipe(*back, code=2).stderr
    rows, manifest = run / "data/train.jsonl", json.loads((run / "run.json").read_text())
    rows.write_bytes(before["data/train.jsonl"] + b"{}\n")
    (run / "run.json").write_text(json.dumps(manifest | {"versions": manifest["versions"] | {"torch": "0.1"}}))
    told = recipe(*back, code=2).stderr
    assert "data/train.jsonl: sha256" in told and "torch: 0.1 before, " in told
    rows.write_bytes(before["data/train.jsonl"])
    (run / "run.json").write_bytes(before["run.json"])
    assert content(run) == before
    assert "eval.max_samples" in recipe(*back, "--set", "eval.max_samples=7").stderr
    assert weights(run) == ended
    assert "accepted: training.scheduler" in recipe(*back, "--set", "training.scheduler=linear", "--accept").stderr
    assert weights(run) != ended and steps(run) == [1, 2, 3, 4]
    assert "scheduler: linear" in (run / "recipe.resolved.yaml").read_text()
    recipe(*back)  # what was accepted is the run's own from then on
