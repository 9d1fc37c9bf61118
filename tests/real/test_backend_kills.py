"""Runs on the real backends, killed anywhere from the preparation to the scores, end as if they had never been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.machine.process import clean_environment
from tests.real.conftest import Recipe, losses, metrics, steps
from tests.real.test_llamafactory_backend import wait_for_end

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.cold]
KILLS = int(os.environ.get("RECIPE_KILLS", "43"))  # of each backend with one process, and a sixth with two
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Five steps an epoch, with dropout: what is not restored shows.
SETTINGS = (
    *("training.max_steps=8", "training.global_batch_size=8", "checkpoint.every=2", "data.train[0].max_samples=45"),
    *("tuning={type: lora, rank: 8, dropout: 0.1}", "eval={loss_every: 4, suites: [perplexity]}"),
)


def arguments(name: str, model: Path, backend: str) -> list[str]:
    given = [f"backend={backend}", f"model.path={model}", *SETTINGS]
    return ["run", "quickstart", "--name", name, *(part for one in given for part in ("--set", one))]


def start(cwd: Path, *given: str) -> subprocess.Popen[str]:
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"})
    command = [sys.executable, "-m", "runner.cli", *given]
    return subprocess.Popen(command, cwd=cwd, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outcome(run: Path) -> dict[str, Any]:
    """All that a run is made for."""
    losses_seen = [(line["step"], line["eval_loss"]) for line in metrics(run) if "eval_loss" in line]
    return {
        "steps": steps(run),
        "losses": losses(run),
        "eval losses": losses_seen,
        "weights": (run / "model/adapter_model.safetensors").read_bytes(),
        "scores": (run / "eval/perplexity.jsonl").read_text(),
        "base's scores": (run / "eval/base/perplexity.jsonl").read_text(),
    }


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("backend", ["llamafactory", "verl"])
def test_killed_at_any_moment_it_ends_as_if_never_killed(
    backend: str, processes: str, recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPROC_PER_NODE", processes)
    began = time.monotonic()
    recipe(*arguments("whole", tiny_model, backend))
    length, expected = time.monotonic() - began, outcome(tmp_path / "runs/whole")
    chance = random.Random(f"{backend} {processes}")
    for number in range(KILLS if processes == "1" else max(1, KILLS // 6)):
        run = tmp_path / "runs" / f"killed-{number}"
        child = start(tmp_path, *arguments(run.name, tiny_model, backend))
        moment, how = chance.uniform(0.05, 1.0) * length, chance.choice(SIGNALS)
        try:
            child.wait(moment)
        except subprocess.TimeoutExpired:
            child.send_signal(how)
            if how is signal.SIGINT and chance.random() < 0.5:
                child.send_signal(how)
        said = child.communicate(timeout=120)[1]
        if not (run / "run.json").is_file():
            continue  # before there was a run
        wait_for_end(run)
        place = f"{how.name} after {moment / length:.0%}\n{said}"
        state = json.loads((run / "run.json").read_text())["state"]
        if state != "succeeded":
            recipe("resume", run.name)
        elif not (run / "eval/results.json").is_file():
            recipe("eval", run.name)
        assert outcome(run) == expected, place
        assert json.loads((run / "run.json").read_text())["state"] == "succeeded", place
        assert not [file for file in run.rglob(".*") if file.name not in (".lock", ".heartbeat")], place
