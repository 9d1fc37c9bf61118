"""A run killed at any moment ends as if it had never been: with a backend whose steps are quick, at many moments."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.machine.process import marked
from tests.real.toy.project import environment, make, python

pytestmark = [pytest.mark.real, pytest.mark.thorough]
KILLS = 100 if os.environ.get("RECIPE_THOROUGH") else 8
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("kills") / "project"
    print(*make(copy))
    return copy


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runner.cli", *arguments]
    return subprocess.Popen(
        command, cwd=project, env=environment(project), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def steps(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def left_over(run: Path) -> list[str]:
    """Temporary files, and processes of the run."""
    files = [str(path) for path in run.rglob(".*") if path.name not in (".lock", ".heartbeat")]
    return [*files, *map(str, marked(f"{run}#0"))]


def test_a_run_killed_anywhere_ends_as_if_never_killed(project: Path, tiny_model: Path) -> None:
    settings = ["--no-eval", "--set", f"model.path={tiny_model}", "--set", "eval.suites=[]", "--runs-dir", "runs"]
    whole = start(project, "run", "echo_toy", "--name", "whole", *settings)
    began = time.monotonic()
    assert whole.wait(400) == 0
    length, seed = time.monotonic() - began, random.Random(int(os.environ.get("RECIPE_SEED", "7")))
    expected = steps(project / "runs/whole"), (project / "runs/whole/model/trained.json").read_text()
    for number in range(KILLS):
        name, number_of_kills = f"killed-{number}", seed.choice((1, 1, 2))
        child = start(project, "run", "echo_toy", "--name", name, *settings)
        run = project / "runs" / name
        for _ in range(number_of_kills):
            moment, how = seed.uniform(0, 1.05) * length, seed.choice(SIGNALS)
            try:
                child.wait(moment)
                break
            except subprocess.TimeoutExpired:
                child.send_signal(how)
            if how is signal.SIGINT and seed.random() < 0.5:
                child.send_signal(how)
            child.wait(60)
            if not (run / "run.json").is_file():
                break
            child = start(project, "resume", name)
        said = child.communicate(timeout=400)[1]
        if not (run / "run.json").is_file():
            continue  # killed before there was a run: nothing that could be resumed, or lost
        resumed = python(project, "-m", "runner.cli", "resume", name, "--no-eval")
        assert resumed.returncode in (0, 2), resumed.stderr
        assert "has succeeded" in resumed.stderr or resumed.returncode == 0, f"{said}\n{resumed.stderr}"
        state = json.loads((run / "run.json").read_text())
        assert state["state"] == "succeeded" and state["trained_steps"] == 6
        assert steps(run) == expected[0], f"kill {number}"
        assert (run / "model/trained.json").read_text() == expected[1], f"kill {number}"
        assert left_over(run) == []


def test_killed_when_only_its_backend_had_ended_it_keeps_every_step(project: Path, tiny_model: Path) -> None:
    """The backend wrote its last step and checkpoint, the runner died before it read them: nothing is trained again."""
    settings = ["--no-eval", "--set", f"model.path={tiny_model}", "--set", "eval.suites=[]", "--runs-dir", "runs"]
    assert python(project, "-m", "runner.cli", "run", "echo_toy", "--name", "unread", *settings).returncode == 0
    run = project / "runs/unread"
    expected = steps(run)
    state = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(state | {"state": "running", "trained_steps": None}))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in expected[:3]))
    shutil.rmtree(run / "model")
    (run / "data/.spec.json.c4f6f61d").write_text("{")  # of a file that was being written
    resumed = python(project, "-m", "runner.cli", "resume", "unread", "--no-eval")
    assert resumed.returncode == 0 and "resuming from" not in resumed.stderr, resumed.stderr
    assert left_over(run) == []
    assert steps(run) == expected and len(json.loads((run / "run.json").read_text())["attempts"]) == 1


@pytest.mark.parametrize("limit", [100, 700, 3_000, 5_000, 8_000, 20_000, 100_000, 500_000, 1_500_000, 3_000_000])
def test_a_disk_that_is_full_is_said_and_survived(project: Path, tiny_model: Path, limit: int) -> None:
    """No file may grow past the limit: which write fails first depends on it, from the manifest to the weights."""
    name = f"full-{limit}"
    command = [sys.executable, "-m", "runner.cli", "run", "echo_toy", "--name", name, "--no-eval",
               "--set", f"model.path={tiny_model}", "--set", "eval.suites=[]"]  # fmt: skip
    first = subprocess.run(
        command, cwd=project, env=environment(project), capture_output=True, text=True, check=False, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    run = project / "runs" / name
    assert first.returncode in (0, 1), first.stderr
    assert not any(line.startswith("Traceback") for line in first.stderr.splitlines()), first.stderr
    assert first.returncode == 0 or "too large" in first.stderr or "No space" in first.stderr, first.stderr
    assert left_over(run) == []
    if (run / "run.json").is_file() and first.returncode:
        assert json.loads((run / "run.json").read_text())["state"] != "succeeded"
        resumed = python(project, "-m", "runner.cli", "resume", name, "--no-eval")
        assert resumed.returncode == 0, resumed.stderr
        assert json.loads((run / "run.json").read_text())["state"] == "succeeded"
