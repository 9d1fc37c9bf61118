"""`recipe launch --on ssh` with an sshd on loopback: two hosts train, one dies, nobody is there, the launcher ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from runner.machine import process
from runner.runs.rundir import Run
from tests.real.cluster import free_port, sshd, until
from tests.real.conftest import Recipe, losses, steps
from tests.real.toy import project

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reach(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with sshd(tmp_path_factory.mktemp("sshd")) as words:
        yield words


def command(words: list[str], reach: list[str], hosts: str, copy: Path, *more: str) -> list[str]:
    called = f"env PYTHONPATH={copy} OMP_NUM_THREADS=1 {sys.executable} -m runner.cli"
    return [
        sys.executable, "-m", "runner.cli", "launch", *words, "--on", "ssh", "--hosts", hosts, "--gpus", "0",
        "--no-eval", "--set", f"launch.ssh.options={json.dumps(reach)}",
        "--set", f"launch.command={json.dumps(called)}", "--set", f"launch.env={{MASTER_PORT: '{free_port()}'}}", *more,
    ]  # fmt: skip


def started(words: list[str], cwd: Path, copy: Path = ROOT) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.Popen(words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def quickstart(model: Path, n: int) -> list[str]:
    return [
        "quickstart", "--name", "both", "--set", f"training.max_steps={n}", "--set", f"model.path={model}",
        "--set", "eval.loss_every=null", "--set", "data.train[0].max_samples=24", "--set", "checkpoint.every=2",
    ]  # fmt: skip


def nobody_works_on(run: Path) -> bool:
    return not [pid for part in (0, 1) for pid in process.marked(Run(run).mark(part))] and Run(run).state() != "running"


def reaches(run: Path, step: int, launcher: subprocess.Popen[str]) -> None:
    def there() -> bool:
        assert launcher.poll() is None, launcher.communicate()
        return (run / "metrics.jsonl").is_file() and max(steps(run), default=0) >= step

    until(there, 180, lambda: "too slow")


def test_two_hosts_train_together(reach: list[str], tiny_model: Path, tmp_path: Path) -> None:
    launcher = started(command(quickstart(tiny_model, 2), reach, "127.0.0.1,localhost", ROOT), tmp_path)
    out, said = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, said
    run = tmp_path / "runs/both"
    assert out.splitlines() == [str(run)] and steps(run) == [1, 2]
    assert json.loads((run / "run.json").read_text())["topology"]["nodes"] == 2
    assert "[localhost] node 1: waiting for node 0" in said and "[127.0.0.1] run: " in said
    assert "node 1: waiting for node 0" in (run / "launch/node-1.log").read_text()


def test_a_host_that_dies_ends_the_others_and_the_run_goes_on(
    reach: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs/both"
    words = command(quickstart(tiny_model, 60), reach, "127.0.0.1,localhost", ROOT)
    launcher = started(words, tmp_path)
    reaches(run, 3, launcher)
    # The second host's connection and all that runs under it, as if its power were cut.
    (node,) = {one for pid in process.marked(Run(run).mark(1)) for one in above(pid)}
    for child in [*node.children(recursive=True), node]:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 1 and "node 1 (localhost) could not be reached, or was lost" in said, said
    until(lambda: nobody_works_on(run), 60, lambda: "the first host works on")
    before = len(steps(run))
    assert 0 < before < 60
    launcher = started([*words, "--resume"], tmp_path)
    _, said = launcher.communicate(timeout=400)
    assert launcher.returncode == 0 and steps(run) == list(range(1, 61)), said
    assert len(json.loads((run / "run.json").read_text())["attempts"]) == 2


def test_a_launch_with_another_runs_weights_goes_on_without_that_run(
    recipe: Recipe, reach: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    """And ends as the same training by itself: the first attempt has the weights, and no later one begins anew."""
    given = [*quickstart(tiny_model, 12), "--set", "tuning={type: lora, rank: 4}"]
    given[given.index("both")] = "one"
    recipe("run", *given, "--no-eval")
    given[given.index("one")] = "alone"
    recipe("run", *given, "--no-eval", "--from", "one")
    given[given.index("alone")] = "two"
    two, words = tmp_path / "runs/two", command([*given, "--from", "one"], reach, "127.0.0.1", ROOT)
    launcher = started(words, tmp_path)
    reaches(two, 3, launcher)
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=120)
    assert Run(two).read().state == "interrupted" and 0 < len(steps(two)) < 12
    Run(tmp_path / "runs/one").update(state="failed")  # as while it trains again
    launcher = started([word for word in [*words, "--resume"] if word not in ("--from", "one")], tmp_path)
    _, said = launcher.communicate(timeout=240)
    assert launcher.returncode == 0 and steps(two) == list(range(1, 13)), said
    parents = [json.loads((tmp_path / "runs" / name / "run.json").read_text())["parent"] for name in ("two", "alone")]
    assert parents[0] == parents[1] and parents[0]["run"] == str(tmp_path / "runs/one")
    weights = [(tmp_path / "runs" / n / "model/adapter_model.safetensors").read_bytes() for n in ("two", "alone")]
    assert weights[0] == weights[1]


def above(pid: int) -> list[psutil.Process]:
    """The sshd that a process runs under: the uppermost but the one that listens."""
    sshds = [one for one in psutil.Process(pid).parents() if one.name().startswith("sshd")]
    return sshds[-2:-1]


def test_a_host_that_is_not_there_is_named(reach: list[str], tiny_model: Path, tmp_path: Path) -> None:
    hosts = f"127.0.0.1,ssh://127.0.0.1:{free_port()}"
    reach = [word for n, word in enumerate(reach) if word != "-p" and reach[n - 1] != "-p"]
    words = command(quickstart(tiny_model, 2), ["-o", "ConnectTimeout=5", *reach], hosts, ROOT)
    launcher = started(words, tmp_path)
    _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 1 and "could not be reached" in said and "Connection refused" in said


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("toy") / "project"
    list(project.make(target))
    return target


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_launcher_that_ends_ends_its_hosts(
    reach: list[str], tiny_model: Path, toy: Path, tmp_path: Path, number: int
) -> None:
    """In a directory whose name has all that a shell could trip over."""
    runs = tmp_path / 'it\'s a "run" of 50% $HOME'
    words = ["echo_toy", "--name", "left", "--runs-dir", str(runs), "--set", f"model.path={tiny_model}"]
    words = command([*words, "--set", "training.max_steps=60"], reach, "127.0.0.1", toy)
    launcher = started(words, toy, toy)
    reaches(runs / "left", 4, launcher)
    launcher.send_signal(number)
    launcher.communicate(timeout=120)
    assert launcher.returncode == (130 if number == signal.SIGINT else -9)
    until(lambda: nobody_works_on(runs / "left"), 60, lambda: "the host works on")
    assert Run(runs / "left").read().state == "interrupted"
    again = started([*words, "--resume"], toy, toy)
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert steps(runs / "left") == list(range(1, 61))
    assert losses(runs / "left")[-1] == pytest.approx(3 / toy_state(60))


def toy_state(n: int) -> float:
    state = 1.0
    for step in range(1, n + 1):
        state = state * 0.7 + step
    return state
