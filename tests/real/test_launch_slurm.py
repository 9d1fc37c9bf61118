"""`recipe launch --on slurm` on a real Slurm of two nodes: submitted, ended, preempted, and a node that dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import Slurm, free_port, slurm, until
from tests.real.conftest import losses, steps
from tests.real.toy import project

pytestmark = [pytest.mark.real, pytest.mark.slow]

STEPS = 60
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the toy backend, which trains slowly and the same every time."""
    target = tmp_path_factory.mktemp("toy") / "project"
    list(project.make(target))
    return target


class Toy:
    """The command line of the toy's project, in a directory whose name has all that a shell could trip over."""

    def __init__(self, copy: Path, cluster: Slurm, model: Path, directory: Path) -> None:
        self.copy, self.cluster, self.model = copy, cluster, model
        self.runs = directory / 'it\'s a "run" of 50%j $HOME'

    def __call__(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "runner.cli", *words, "--runs-dir", str(self.runs)],
            cwd=self.copy, env={**project.environment(self.copy), **self.cluster.env},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done

    def words(self, name: str, partition: str, *more: str) -> list[str]:
        command = f"env PYTHONPATH={self.copy} OMP_NUM_THREADS=1 {sys.executable} -m runner.cli"
        return ["launch", "echo_toy", "--on", "slurm", "--gpus", "0", "--partition", partition, "--name", name,
                "--no-eval", "--set", f"launch.command={json.dumps(command)}", "--set", f"model.path={self.model}",
                "--set", f"training.max_steps={STEPS}", "--set", "checkpoint.keep=2", *more]  # fmt: skip

    def launch(self, name: str, partition: str, *more: str) -> str:
        """Launch the toy; returns the number of the job."""
        self(*self.words(name, partition, *more))
        return str(json.loads((self.runs / name / "launch/launch.json").read_text())["id"])

    def said(self, name: str) -> str:
        logs = [*(self.runs / name).glob("launch/*.log"), *(self.runs / name).glob("logs/*.log")]
        return "\n".join(f"== {log}\n{log.read_text()[-3000:]}" for log in logs)

    def state(self, name: str) -> str:
        lines = self("runs").stdout.splitlines()
        return next((line.split()[1] for line in lines if line.startswith(f"{name} ")), "")

    def reaches(self, name: str, state: str, seconds: float = 120) -> None:
        until(lambda: self.state(name) == state, seconds, lambda: f"{self.state(name)}\n{self.said(name)}")

    def steps_of(self, name: str, at_least: int) -> None:
        run = self.runs / name
        until(
            lambda: (run / "metrics.jsonl").is_file() and max(steps(run), default=0) >= at_least,
            180,
            lambda: f"{self.state(name)}\n{self.said(name)}",
        )

    def is_whole(self, name: str, attempts: int) -> None:
        """It has succeeded with what an uninterrupted training gives: each step once, each loss that step's own."""
        run, state, wanted = self.runs / name, 1.0, []
        for step in range(1, STEPS + 1):
            state = state * 0.7 + step
            wanted.append(3 / state)
        assert steps(run) == list(range(1, STEPS + 1)) and losses(run) == pytest.approx(wanted)
        assert json.loads((run / "model/trained.json").read_text()) == pytest.approx(state)
        assert len(json.loads((run / "run.json").read_text())["attempts"]) == attempts


@pytest.fixture
def call(toy: Path, cluster: Slurm, tiny_model: Path, tmp_path: Path) -> Toy:
    return Toy(toy, cluster, tiny_model, tmp_path)


def test_two_nodes_train_together(cluster: Slurm, tiny_model: Path, tmp_path: Path) -> None:
    """The nodes are two slurmds of this host, whose names no resolver knows: hence the address."""
    env = {**os.environ, **cluster.env, "PYTHONPATH": str(ROOT)}
    words = [
        "launch", "quickstart", "--on", "slurm", "--nodes", "2", "--gpus", "0", "--time", "10", "--no-eval",
        "--set", f"launch.env={{MASTER_ADDR: 127.0.0.1, MASTER_PORT: '{free_port()}', OMP_NUM_THREADS: '1'}}",
        "--set", "training.max_steps=2", "--set", f"model.path={tiny_model}", "--set", "eval.loss_every=null",
        "--set", "data.train[0].max_samples=24",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[-1])
    job = json.loads((run / "launch/launch.json").read_text())["id"]
    log = run / f"launch/slurm-{job}.log"
    until(lambda: not cluster.state(job), 240, lambda: log.read_text())
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["state"] == "succeeded" and manifest["topology"]["nodes"] == 2, log.read_text()
    assert steps(run) == [1, 2]
    assert {one.name for one in (run / "logs").glob("attempt*")} == {"attempt-1.log", "attempt-1-node-1.log"}
    assert "1: node 1: waiting for node 0" in log.read_text()  # srun's label is the task's number


def test_a_job_is_followed_ended_and_launched_again(call: Toy, cluster: Slurm) -> None:
    blocker = cluster("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--wrap=sleep 600",
                      "--output=/dev/null")  # fmt: skip
    job = call.launch("followed", "grace")
    assert call.state("followed") == "pending" and cluster.state(job) == "PENDING"
    told = [json.loads(line) for line in call("runs", "--json").stdout.splitlines()]
    assert [(one["name"], one["state"], one["launch"]["id"]) for one in told] == [("followed", "pending", job)]
    cluster("scancel", blocker)
    call.steps_of("followed", 3)
    assert call.state("followed") == "running"
    refused = call(*call.words("followed", "grace", "--resume"), code=2)
    assert f"followed is running as job {job}: end it first" in refused.stderr
    cluster("scancel", job)
    until(lambda: not cluster.state(job), 60, lambda: cluster.state(job))
    call.reaches("followed", "interrupted")
    assert "queued again" not in call.said("followed")
    again = call.launch("followed", "grace", "--resume")
    assert again != job
    call.reaches("followed", "succeeded", 240)
    call.is_whole("followed", attempts=2)


def test_a_job_that_fails_after_a_preemption_stays_ended(cluster: Slurm, tmp_path: Path) -> None:
    """Slurm tells of a preemption for as long as there is the job: it must not bring back what fails by itself."""
    (tmp_path / "own.sh").write_text("echo x >> began; [ $(wc -l < began) = 1 ] && exec sleep 600; exit 3\n")
    words = [
        "launch", "quickstart", "--on", "slurm", "--gpus", "0", "--partition", "grace",
        "--set", f"launch.command=bash {tmp_path / 'own.sh'}",
    ]  # fmt: skip
    env = {**os.environ, **cluster.env, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "runner.cli", *words], cwd=tmp_path, env=env, check=True)
    job = json.loads((tmp_path / "runs/quickstart/launch/launch.json").read_text())["id"]
    began = tmp_path / "began"
    until(began.is_file, 60, lambda: cluster("squeue"))
    other = cluster("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--wrap=sleep 600",
                    "--output=/dev/null")  # fmt: skip
    until(lambda: cluster.state(job) == "PENDING", 60, lambda: cluster("squeue"))
    cluster("scancel", other)
    cluster.hurry(job)
    until(lambda: not cluster.state(job), 60, lambda: cluster("squeue"))
    assert began.read_text() == "x\nx\n", (tmp_path / f"runs/quickstart/launch/slurm-{job}.log").read_text()


@pytest.mark.parametrize("partition", ["grace", "abrupt"])
def test_a_preempted_job_is_queued_again_and_goes_on(call: Toy, cluster: Slurm, partition: str) -> None:
    """Within a grace time the run ends by itself, which Slurm takes for the job's end; without one it is killed."""
    job = call.launch("preempted", partition)
    call.steps_of("preempted", 4)
    other = cluster("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--wrap=sleep 600",
                    "--output=/dev/null")  # fmt: skip
    call.reaches("preempted", "preempted")
    assert cluster.state(job) == "PENDING"
    cluster("scancel", other)
    cluster.hurry(job)
    until(lambda: not cluster.state(job), 400, lambda: call.said("preempted"))
    assert call.state("preempted") == "succeeded", call.said("preempted")
    call.is_whole("preempted", attempts=2)


def test_a_job_whose_node_dies_goes_on_on_another(call: Toy, cluster: Slurm) -> None:
    job = call.launch("orphan", "grace")
    call.steps_of("orphan", 4)
    node = cluster("squeue", "--noheader", f"--jobs={job}", "--format=%N")
    cluster.node_dies(node)
    try:
        call.reaches("orphan", "requeued")
        cluster.hurry(job)
        until(lambda: not cluster.state(job), 400, lambda: f"{cluster('squeue')}\n{call.said('orphan')}")
        assert call.state("orphan") == "succeeded", call.said("orphan")
        call.is_whole("orphan", attempts=2)
    finally:
        cluster.start_node(node)


@pytest.mark.parametrize(("gpus", "fits"), [(2, True), (3, False)])
def test_slurm_counts_the_gpus_that_are_asked_for(gpus: int, fits: bool, call: Toy, tmp_path: Path) -> None:
    """Slurm's own scheduler says when and where the job would start; a node has two."""
    shown = call(
        "launch", "quickstart", "--on", "slurm", "--nodes", "2", "--gpus", str(gpus), "--dry-run",
        "--set", "training.micro_batch_size=1", "--set", "training.global_batch_size=12",
    ).stdout  # fmt: skip
    file = tmp_path / "job.sbatch"
    file.write_text("".join(f"{line[2:]}\n" for line in shown.splitlines() if line.startswith("  ")))
    env = {**os.environ, **call.cluster.env}
    done = subprocess.run(["sbatch", "--test-only", str(file)], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == fits, done.stderr
    said = "nodes n[1-2] in partition grace" if fits else "Requested node configuration is not available"
    assert said in done.stderr, done.stderr
