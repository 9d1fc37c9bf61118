"""Two nodes on one machine: they meet through the run directory, train together, and a missing one is named."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runner.machine import process
from runner.machine.process import clean_environment
from runner.runs.rundir import Run
from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, losses, steps

pytestmark = pytest.mark.real


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def node(rank: int, port: str, arguments: list[str], cwd: Path, **more: str) -> subprocess.Popen[str]:
    env = {"NNODES": "2", "NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **more}
    env = clean_environment({**env, "PYTHONPATH": str(Path(__file__).parents[2])})
    command = [sys.executable, "-m", "runner.cli", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_two_nodes_train_together(backend: str, tiny_model: Path, tmp_path: Path) -> None:
    arguments = [
        "run", "quickstart", "--no-eval", "--name", "both", "--set", f"backend={backend}",
        "--set", "training.max_steps=2",
        "--set", f"model.path={tiny_model}", "--set", "eval.loss_every=null", "--set", "data.train[0].max_samples=24",
    ]  # fmt: skip
    port = free_port()
    started = [node(rank, port, arguments, tmp_path) for rank in (1, 0)]
    said = [process_.communicate(timeout=150)[1] for process_ in started]
    assert [process_.returncode for process_ in started] == [0, 0], said
    run = tmp_path / "runs" / "both"
    assert "waiting for node 0 to prepare" in said[0]
    alone = node(0, free_port(), [*arguments, "--name", "alone"], tmp_path, NNODES="1")
    assert alone.wait(timeout=150) == 0
    assert steps(run) == [1, 2]
    assert losses(run) == pytest.approx(losses(tmp_path / "runs" / "alone"), abs=1e-4)
    assert json.loads((run / "run.json").read_text())["topology"]["nodes"] == 2
    assert {log.name for log in (run / "logs").glob("attempt*")} == {"attempt-1.log", "attempt-1-node-1.log"}
    assert process.marked(Run(run).mark()) == process.marked(Run(run).mark(1)) == []


def test_a_missing_node_is_named(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["run", "quickstart", "--no-eval", "--set", f"model.path={tiny_model}"]
    alone = node(0, free_port(), arguments, tmp_path, RECIPE_NODE_TIMEOUT="2")
    _, said = alone.communicate(timeout=120)
    assert alone.returncode == 1 and "waiting for node 1" in said
    assert json.loads((tmp_path / "runs/quickstart/run.json").read_text())["state"] == "failed"
    assert (tmp_path / "runs/quickstart/data/tokenized").is_dir()
