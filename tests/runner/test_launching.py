"""Launching: what is asked for is checked, and each place is told it, whatever the names."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes import UserError, load
from recipes.paths import local_files
from recipes.typed import write_typed
from recipes.yaml_text import dump
from runner.cli import main
from runner.launching import PLACES, launch, ssh
from runner.launching.contract import Launched
from runner.launching.queued import queued
from runner.runs import rundir
from runner.training.parent import child_of
from runner.training.train import Options as TrainOptions
from tests.runner.test_parent import CONFIG, LORA, trained

# What a person, or a tool of his, may call a directory; a line's end and a backslash are refused by Slurm's place.
NAMES = st.text(st.sampled_from("ab '\"$`;&|%*?~!#(){}<>é中-="), min_size=1, max_size=12)
VALUES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x85\u2028\u2029"), max_size=12)
SHOW = """\
import json, os, sys
names = sys.argv[2].split(",")
with open(sys.argv[1], "w") as target:
    json.dump({"argv": sys.argv[3:], "env": {name: os.environ.get(name) for name in names}, "cwd": os.getcwd()}, target)
"""
PLAIN = ("launch.gpus=0",)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file, and the shell text that stands for `recipe` and writes into it what it was called with."""
    directory = tmp_path_factory.mktemp("shown")
    (directory / "show.py").write_text(SHOW)
    names = "N_GPUS,NNODES,NODE_RANK,MASTER_ADDR,MASTER_PORT,OWN"
    return directory / "seen.json", shlex.join(
        [sys.executable, str(directory / "show.py"), str(directory / "seen.json"), names]
    )


def said(text: object) -> str:
    return dump(text, flow=True)


def asked(place: str, run: Path, *overrides: str, flags: tuple[str, ...] = ()) -> tuple[launch.Request, launch.Job]:
    loaded = load("quickstart", [f"launch.on={place}", *PLAIN, *overrides])
    request = launch.request(loaded, run, flags)
    return request, launch.job(request)


def recipe_words(run: Path) -> list[str]:
    return [
        "run", str(run / f"launch/{run.name}.yaml"), "--runs-dir", str(run.parent), "--name", run.name, "--resume",
        "--trust-run",
    ]  # fmt: skip


@settings(max_examples=40)
@given(directory=NAMES, value=VALUES)
def test_the_sbatch_file_says_what_is_asked_for(shown: tuple[Path, str], directory: str, value: str) -> None:
    """Read as sbatch reads it, and run by bash with an srun that only runs the command."""
    seen, command = shown
    run = Path("/tmp", directory, "one")
    _, job = asked(
        "slurm", run, "launch.nodes=2", f"launch.command={said(command)}", "launch.slurm.partition=gpu,cpu",
        "launch.slurm.time='1-12:00:00'", "launch.slurm.constraint='[a|b]&c'",
        f"launch.env={said({'OWN': value})}",
        "launch.slurm.sbatch=['--comment=a \"b\" $c', --exclusive]",
    )  # fmt: skip
    text = job.files["job.sbatch"]
    options = [shlex.split(line.removeprefix("#SBATCH ")) for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert all(len(words) == 1 for words in options)
    given_ = dict(word.partition("=")[::2] for (word,) in options)
    assert given_ == {
        "--job-name": "one", "--nodes": "2", "--ntasks-per-node": "1", "--partition": "gpu,cpu", "--requeue": "",
        "--constraint": "[a|b]&c", "--time": "1-12:00:00", "--open-mode": "append", "--exclusive": "",
        "--comment": 'a "b" $c', "--output": str(run).replace("%", "%%") + "/launch/slurm-%j.log",
    }  # fmt: skip
    tools = """
    scontrol() { [ "$2" = hostnames ] && printf 'node7\\nnode8\\n'; }
    srun() { while [ "$1" != bash ]; do shift; done; SLURM_NODEID=1 "$@"; }
    """
    seen.unlink(missing_ok=True)
    env = {
        **os.environ,
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_ID": "123456",
        "NODE_RANK": "5",
    }
    done = subprocess.run(
        ["bash", "-c", textwrap.dedent(tools) + text], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(seen.read_text())
    assert told["argv"] == recipe_words(run)
    port = str(20000 + 123456 % 12000)
    assert told["env"] == {
        "N_GPUS": "0", "NNODES": "2", "NODE_RANK": None, "MASTER_ADDR": "node7", "MASTER_PORT": port, "OWN": value
    }  # fmt: skip


@pytest.mark.parametrize(
    "code,state,again",
    [(0, "PreemptTime=None", False), (1, "PreemptTime=None", False), (143, "PreemptTime=2026-11-26T09:00:00", True)],
)
def test_a_job_asks_to_be_queued_again_after_a_preemption_alone(
    tmp_path: Path, code: int, state: str, again: bool
) -> None:
    _, job = asked("slurm", tmp_path / "one", f"launch.command=exit {code};")
    tools = f"""
    scontrol() {{ case "$1" in requeue) touch {tmp_path}/again;; show) echo "  {state} x";; esac; }}
    srun() {{ while [ "$1" != bash ]; do shift; done; "$@"; }}
    """
    env = {**os.environ, "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "n", "SLURM_JOB_ID": "1"}
    done = subprocess.run(["bash", "-c", textwrap.dedent(tools) + job.files["job.sbatch"]], env=env, check=False)
    assert done.returncode == code and (tmp_path / "again").exists() == again


@settings(max_examples=25)
@given(directory=NAMES, value=VALUES)
def test_each_host_is_given_its_rank_and_the_same_command(
    shown: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory, directory: str, value: str
) -> None:
    """As sshd has it: the last word is given to the user's shell."""
    seen, command = shown
    run, where = Path("/tmp", directory, "one"), tmp_path_factory.mktemp("ssh") / directory
    where.mkdir()
    _, job = asked(
        "ssh", run, "launch.ssh.hosts=[me@a, 'ssh://b:2222']", f"launch.command={said(command)}",
        f"launch.env={said({'OWN': value})}", f"launch.ssh.directory={said(str(where))}",
        "launch.ssh.options=[-i, my key]", flags=("--no-eval",),
    )  # fmt: skip
    assert [words[-2] for words in job.commands] == ["me@a", "ssh://b:2222"]
    for rank, words in enumerate(job.commands):
        assert words[0] == "ssh" and words[-4:-2] == ("-i", "my key")
        seen.unlink(missing_ok=True)
        child = subprocess.Popen(
            ["sh", "-c", words[-1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stdout and child.stderr and child.stdin
        assert (child.stdout.read(), child.stderr.read(), child.wait(20)) == ("", "", 0)
        child.stdin.close()
        told = json.loads(seen.read_text())
        assert told["argv"] == [*recipe_words(run), "--no-eval"] and told["cwd"] == str(where.resolve())
        assert told["env"] == {
            "N_GPUS": "0", "NNODES": "2", "NODE_RANK": str(rank), "MASTER_ADDR": "a", "MASTER_PORT": "29500",
            "OWN": value,
        }  # fmt: skip


def test_a_host_ends_its_command_when_nobody_holds_the_connection(tmp_path: Path) -> None:
    """And gives its exit code back: a run writes its state before it ends."""
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print(1, flush=True); time.sleep(60)"
    command = shlex.join([sys.executable, "-c", code])
    _, job = asked("ssh", tmp_path / "one", "launch.ssh.hosts=[a]", f"launch.command={said(command)}")
    child = subprocess.Popen(
        ["sh", "-c", job.commands[0][-1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdin and child.stdout.readline() == "1\n"
    began = time.monotonic()
    child.stdin.close()
    assert child.wait(20) == 7 and time.monotonic() - began < 10


@pytest.mark.parametrize(
    "host,name",
    [
        ("a", "a"),
        ("me@a.b.c", "a.b.c"),
        ("ssh://a:22", "a"),
        ("ssh://me@10.0.0.1:2222", "10.0.0.1"),
        ("me@[fe80::1]", "fe80::1"),
    ],
)
def test_the_address_of_a_host(host: str, name: str) -> None:
    assert ssh.address(host) == name


@settings(max_examples=25)
@given(value=VALUES)
def test_a_task_of_skypilot_is_yaml_whose_shell_text_says_what_is_asked_for(
    shown: tuple[Path, str], value: str
) -> None:
    seen, command = shown
    run = Path("/tmp/it's here/one")
    request, job = asked(
        "skypilot", run, "launch.skypilot.storage=volume", "launch.nodes=2", f"launch.command={said(command)}",
        f"launch.env={said({'OWN': value})}", "launch.skypilot.infra=kubernetes", "launch.skypilot.spot=true",
        "launch.skypilot.task={resources: {disk_size: 512, use_spot: false}, secrets: {HF_TOKEN: null}}",
    )  # fmt: skip
    task = yaml.safe_load(job.files["task.yaml"])
    assert task["resources"] == {"infra": "kubernetes", "use_spot": False, "disk_size": 512}
    assert (task["num_nodes"], task["volumes"]) == (2, {"/recipe-runs": "volume"})
    (data,) = local_files(request.loaded.resolved)
    assert task["file_mounts"] == {"~/recipe-launch/one.yaml": str(run / "launch/one.yaml"), str(data): str(data)}
    assert job.commands == (
        ("sky", "jobs", "launch", "--yes", "--detach-run", "--secret", "HF_TOKEN", str(run / "launch/task.yaml")),
    )
    seen.unlink(missing_ok=True)
    env = {
        **os.environ,
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    }
    subprocess.run(["bash", "-c", task["run"]], env=env, check=True)
    told = json.loads(seen.read_text())
    home = os.environ["HOME"]
    words = ["run", f"{home}/recipe-launch/one.yaml", "--runs-dir", "/recipe-runs", "--name", "one", "--resume"]
    assert told["argv"] == [*words, "--trust-run"]
    assert told["env"] == {
        "N_GPUS": "0", "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "OWN": value
    }  # fmt: skip
    assert subprocess.run(["bash", "-n", "-c", task["setup"]], check=False).returncode == 0


def test_the_files_of_a_recipe_are_found_wherever_it_names_them(tmp_path: Path) -> None:
    for name in ("rows/a.jsonl", "rows/b.jsonl", "more.jsonl", "asked/x.jsonl", "t.jinja", "own.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "own.py").write_text("def f(reply, reference, row): return 1.0\n")
    file = tmp_path / "r.yaml"
    file.write_text(
        "backend: llamafactory\nmethod: sft\nmodel: {path: bundled:smollm2-135m-instruct, chat_template: t.jinja}\n"
        "data: {train: [{path: ['rows/*.jsonl', more.jsonl]}, {path: org/rows}]}\n"
        "eval: {suites: [reference], data: {reference: asked/x.jsonl}, measures: [{name: f, path: 'own.py:f'}]}\n"
    )
    names = {"rows", "more.jsonl", "asked/x.jsonl", "t.jinja", "own.py"}
    assert set(local_files(load(file).resolved)) == {tmp_path / name for name in names}


@pytest.mark.parametrize(
    "words,message",
    [
        ([], "where to launch? give --on slurm"),
        (
            ["--on", "slrm"],
            "launch.on: \"slrm\" is not allowed; allowed: slurm, ssh, skypilot, null; did you mean 'slurm'?",
        ),
        (
            ["--on", "slurm", "--time", "12h"],
            'launch.slurm.time: "12h" is not allowed; allowed: a time as sbatch has it',
        ),
        (["--on", "slurm", "--gpus", "many"], 'launch.gpus: "many" is not allowed; allowed: a whole number'),
        (["--on", "slurm", "--gpus", "3"], "global_batch_size: 8 does not divide"),
        (["--on", "ssh"], "launch.ssh.hosts: missing; ssh needs the hosts"),
        (["--on", "ssh", "--hosts", "a,b", "--nodes", "3"], "launch.nodes: 3, but launch.ssh.hosts names 2"),
        (["--on", "ssh", "--hosts=-oProxyCommand=x"], "is not allowed; allowed: a host as ssh takes it"),
        (["--on", "skypilot", "--gpus", "0"], "launch.skypilot.storage: missing"),
        (["--on", "skypilot", "--set", "launch.skypilot.storage=s3://a"], "launch.skypilot.accelerator: missing"),
        (
            ["--on", "slurm", "--gpus", "0", "--set", "launch.env={NNODES: '2'}"],
            "launch.env.NNODES: is set by the launch",
        ),
        (["--on", "slurm", "--gpus", "0", "--set", "launch.env={HF_TOKEN: a}"], "a secret must not stand in a recipe"),
        (
            ["--on", "slurm", "--set", "launch.slurm.sbatch=[--nodes=2]"],
            "--nodes is given by the launch, from launch.nodes",
        ),
        (["--on", "slurm", "--set", "launch.slurm.sbatch=['-N 2']"], "allowed: one long option"),
        (["--on", "slurm", "--set", "launch.slurm.partition='a b'"], "allowed: text without spaces"),
        (
            ["--on", "slurm", "--gpus", "0", "--nodes", "2", "--set", "eval.every=4", "--set", "eval.mode=pause"],
            "pause stops",
        ),
        (["--on", "slurm", "--gpus", "0", "--runs-dir", "a\\b"], "Slurm takes no path with a backslash"),
        (["--on", "slurm", "--gpus", "0", "--set", "launch.skypilot.task={resource: 1}"], "did you mean 'resources'?"),
        (
            ["--on", "slurm", "--gpus", "0", "--set", "launch.skypilot.task={secrets: [HF_TOKEN]}"],
            "launch.skypilot.task.secrets: must be a mapping",
        ),
        (
            ["--on", "slurm", "--gpus", "0", "--set", "launch.skypilot.task={file_mounts: null}"],
            "launch.skypilot.task.file_mounts: must be a mapping",
        ),
        (["--on", "slurm", "--gpus", "0", "--hosts", "a,b"], "--hosts is of ssh, and this is launched on slurm"),
        (["--on", "ssh", "--gpus", "0", "--hosts", "a", "--time", "1:00:00"], "--time is of slurm, and this is"),
        (
            ["--on", "slurm", "--gpus", "2", "--set", "launch.env={CUDA_VISIBLE_DEVICES: '0'}"],
            "launch.env.CUDA_VISIBLE_DEVICES: names 1 of the 2 GPUs that launch.gpus asks for",
        ),
    ],
)
def test_what_cannot_be_launched_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for dry in ([], ["--dry-run"]):
        assert main(["launch", "quickstart", *words, *dry]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_gpus_that_score_are_left_out_of_the_training(tmp_path: Path) -> None:
    request, job = asked(
        "slurm", tmp_path / "one", "launch.gpus=4", "eval.mode=concurrent", "eval.devices=['3']", "eval.every=8",
        "training.global_batch_size=12", "training.micro_batch_size=1",
    )  # fmt: skip
    assert (request.machines.gpus, request.machines.devices) == (3, ("0", "1", "2"))
    assert "#SBATCH --gpus-per-node=4\n" in job.files["job.sbatch"] and "export N_GPUS=3\n" in job.files["job.sbatch"]


def test_a_plan_shows_the_launch_and_the_machines_that_it_asks_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "plan",
        "quickstart",
        "--on",
        "slurm",
        "--gpus",
        "4",
        "--nodes",
        "2",
        "--set",
        "training.global_batch_size=32",
    ]
    assert main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["topology"]["nodes"], plan["topology"]["gpus"]) == (2, 4)
    assert "#SBATCH --gpus-per-node=4\n" in plan["launch"]["files"]["job.sbatch"]
    assert "--nnodes=2" in plan["argv"] and plan["launch"]["on"] == "slurm"
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "4 GPUs on each of 2 nodes" in out and "launch on slurm: 2 nodes, 4 GPUs each" in out and "  #SBATCH" in out


def test_without_a_scheduler_one_is_told_where_to_go(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for place, more, message in (
        ("slurm", [], "there is no sbatch here"),
        ("ssh", ["--hosts", "a"], "there is no ssh here"),
        ("skypilot", ["--set", "launch.skypilot.storage=s3://a"], "there is no `sky` here; install it"),
    ):
        assert main(["launch", "quickstart", "--on", place, "--gpus", "0", *more]) == 2
        assert message in capsys.readouterr().err
        assert not list((tmp_path / "runs").iterdir())


def tool(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(f"#!/bin/bash\n{text}\n")
    (directory / name).chmod(0o755)


def test_a_job_that_is_refused_points_to_nothing_that_is_gone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tool(tmp_path, "sbatch", "echo 'invalid partition' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main(["launch", "quickstart", "--on", "slurm", "--gpus", "0"]) == 1
    said = capsys.readouterr().err
    assert "invalid partition" in said and "--dry-run" in said and "job.sbatch" not in said
    assert not list((tmp_path / "runs").iterdir())


def record(directory: Path, name: str, number: str) -> Path:
    launched = Launched(
        on="slurm",
        id=number,
        recipe="/r.yaml",
        overrides=(),
        backend="verl",
        method="sft",
        tuning="lora",
        created="2026",
    )
    (directory / name / "launch").mkdir(parents=True, exist_ok=True)
    write_typed(directory / name / "launch/launch.json", launched)
    return directory / name


def test_runs_shows_what_the_queue_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    for name, number in (("waits", "1"), ("starts", "2"), ("gone", "3"), ("again", "4"), ("moved", "5")):
        record(runs, name, number)
    rundir.create(load("quickstart"), runs, "again", begun=True)
    (runs / "again/launch/slurm-4.log").write_text("x\nslurmstepd: *** JOB 4 CANCELLED AT now DUE TO PREEMPTION ***\n")
    (runs / "moved/launch/slurm-5.log").write_text("*** JOB 5 CANCELLED AT now DUE TO NODE FAILURE, SEE LOG ***\n")
    (runs / "waits/launch/more.json").write_text("{}")
    (runs / "torn/launch").mkdir(parents=True)
    (runs / "torn/launch/launch.json").write_text("{")
    tool(tmp_path, "squeue", "printf '%30s%30s%10s\\n' 1 PENDING 0 2 RUNNING 0 4 PENDING 1 5 PENDING 2 9 RUNNING 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main(["runs", "--runs-dir", str(runs)]) == 0
    out, err = capsys.readouterr()
    found = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:]}
    wanted = {"waits": "pending", "starts": "running", "gone": "ended", "again": "preempted", "moved": "requeued"}
    assert found == wanted and "left out: " in err and "torn" in err
    assert main(["runs", "--json", "--runs-dir", str(runs)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["name"]: line["state"] for line in lines} == wanted
    assert {line["launch"]["id"] for line in lines} == {"1", "2", "3", "4", "5"}
    assert main(["runs", "waits", "--runs-dir", str(runs)]) == 0
    assert "waits: pending, launched on slurm as 1" in capsys.readouterr().out
    assert main(["runs", "again", "--runs-dir", str(runs)]) == 0
    assert "again: preempted, launched on slurm as 4" in capsys.readouterr().err
    assert main(["rm", "again", "--yes", "--runs-dir", str(runs)]) == 2
    assert "again is preempted as job 4: end it first" in capsys.readouterr().err and (runs / "again/run.json").exists()
    tool(tmp_path, "squeue", "echo no controller >&2; exit 1")
    assert main(["runs", "--runs-dir", str(runs)]) == 0
    assert "no state is known: no controller" in capsys.readouterr().err


def test_a_launch_leaves_the_recipe_as_it_was_launched(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one gets a name of its own; one that sbatch refuses leaves nothing."""
    monkeypatch.chdir(tmp_path)
    tool(tmp_path, "sbatch", 'cp "$2" submitted; echo 77')
    tool(tmp_path, "squeue", "echo '        77     RUNNING   0'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words = ["launch", "quickstart", "--on", "slurm", "--gpus", "0", "--set", "training.max_steps=3"]
    assert main(words) == 0 and main(words) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(tmp_path / "runs" / name) for name in ("quickstart", "quickstart-2")]
    assert "scancel 77" in err
    second = tmp_path / "runs/quickstart-2/launch"
    assert (tmp_path / "submitted").read_text() == (second / "job.sbatch").read_text()
    kept = load(second / "quickstart-2.yaml").recipe
    assert (kept.training.max_steps, kept.launch.on, kept.launch.gpus, kept.name) == (3, "slurm", 0, "quickstart-2")
    told = json.loads((second / "launch.json").read_text())
    assert told["id"] == "77" and "training.max_steps=3" in told["overrides"]
    assert main([*words, "--name", "quickstart"]) == 2 and "is there already" in capsys.readouterr().err
    assert main([*words, "--name", "quickstart", "--resume"]) == 2
    assert "quickstart is running as job 77" in capsys.readouterr().err
    tool(tmp_path, "squeue", "")
    assert main([*words, "--name", "quickstart", "--resume", "--set", "training.learning_rate=0.5"]) == 2
    said = capsys.readouterr().err
    assert "training.learning_rate: 0.0015 there, 0.5 asked for" in said and "recipe resume quickstart --set" in said
    assert main([*words, "--name", "quickstart", "--resume", "--time", "5"]) == 0
    assert '#SBATCH --time="5"' in (tmp_path / "runs/quickstart/launch/job.sbatch").read_text()
    tool(tmp_path, "sbatch", "echo invalid partition >&2; exit 1")
    assert main([*words, "--name", "third"]) == 1
    assert "invalid partition" in capsys.readouterr().err and not (tmp_path / "runs/third").exists()


def of_job(run: Path) -> list[str]:
    """The words of `recipe run` in a run's job, as sbatch's shell reads them."""
    text = (run / "launch/job.sbatch").read_text()
    line = next(line for line in text.splitlines() if line.startswith("srun "))
    words = shlex.split(shlex.split(line)[-1])
    return words[words.index("run") :]


def test_a_launch_begins_with_the_weights_of_another_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt is told which, by the step: the other run may train on while this one waits in a queue."""
    monkeypatch.chdir(tmp_path)
    tool(tmp_path, "sbatch", "echo 77")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    one = trained(tmp_path / "runs", "one", LORA, config=CONFIG)
    words = ["launch", "quickstart", "--on", "slurm", "--gpus", "0", "--name", "two", "--set", LORA]
    assert main([*words, "--from", "one", "--accept"]) == 0
    two = tmp_path / "runs/two"
    begins = ["--from", f"{one.path}:4"]
    assert of_job(two) == [*recipe_words(two), *begins, "--accept"]
    given, file = of_job(two), load(two / "launch/two.yaml").recipe
    assert file.model.adapter_path == str(one.model)  # as the launch checked it
    capsys.readouterr()
    assert main([*given, "--dry-run"]) == 0 and str(one.model) in capsys.readouterr().out
    # A second launch, before the run has begun, need not say it again, and may not say otherwise.
    assert main([*words, "--resume"]) == 0 and of_job(two) == [*recipe_words(two), *begins]
    trained(tmp_path / "runs", "other", LORA, config=CONFIG)
    for more in (["--from", "other"], ["--from", "one", "--merged"]):
        assert main([*words, "--resume", *more]) == 2
    assert "two was launched with --from" in capsys.readouterr().err
    # Where it has begun, its own record counts, whatever has become of the other run.
    loaded, parent = child_of("quickstart", [LORA], "one", TrainOptions(runs_dir=tmp_path / "runs"), make=False)
    rundir.create(loaded, tmp_path / "runs", "two", parent=parent, begun=True).update(state="interrupted")
    one.update(state="failed")
    assert main([*words, "--resume", "--from", "one"]) == 0 and of_job(two) == [*recipe_words(two), *begins]
    capsys.readouterr()
    for verb in (words, ["run", "quickstart", "--name", "two"]):
        for other in ("other", "one:3"):
            assert main([*verb, "--resume", "--from", other]) == 2
            assert f"two began with adapter of {one.path} at step 4" in capsys.readouterr().err


def test_a_launch_that_cannot_begin_with_another_runs_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trained(tmp_path, "one", LORA, config=CONFIG)
    common = ["launch", "quickstart", "--runs-dir", str(tmp_path), "--dry-run", "--gpus", "0", "--set", LORA]
    sky = ["--on", "skypilot", "--set", "launch.skypilot.storage=gs://a"]
    assert main([*common, *sky, "--from", "one"]) == 2 and "set model.path, or" in capsys.readouterr().err
    assert main([*common, "--on", "slurm", "--from", "onee"]) == 2 and "did you mean 'one'" in capsys.readouterr().err
    assert main([*common, "--on", "slurm", "--merged"]) == 2 and "goes with --from" in capsys.readouterr().err
    assert not (tmp_path / "quickstart").exists()
    plan = ["plan", "quickstart", "--runs-dir", str(tmp_path), "--gpus", "0", "--set", LORA, "--on", "slurm"]
    assert main([*plan, "--from", "one"]) == 0 and f"--from {tmp_path / 'one'}:4" in capsys.readouterr().out


def test_the_run_begins_in_the_directory_that_its_launch_made(tmp_path: Path) -> None:
    path = record(tmp_path, "one", "1")
    with pytest.raises(UserError, match="is there already"):
        rundir.create(load("quickstart"), tmp_path, "one")
    run = rundir.create(load("quickstart"), tmp_path, "one", begun=True)
    assert run.path == path.resolve() and run.read().state == "prepared"
    with pytest.raises(UserError, match="is there already"):
        rundir.create(load("quickstart"), tmp_path, "one", begun=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is there already"):
        rundir.create(load("quickstart"), tmp_path, "file", begun=True)


def test_every_place_is_one_of_the_schema_and_of_the_documents() -> None:
    from recipes import schema

    assert schema.leaves()["launch.on"]["enum"] == [*PLACES, None]
    assert queued(Path("/nowhere"), print) == {}


def by_ssh(tmp_path: Path, own: str) -> subprocess.Popen[str]:
    """A launch of a script in place of `recipe` on the hosts a and b: an ssh that only starts a shell here."""
    tool(tmp_path, "ssh", 'exec sh -c "${@: -1}"')
    (tmp_path / "own.sh").write_text(own)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    env["RECIPE_WRAP"] = "false"  # put before the processes of a run alone
    words = ["launch", "quickstart", "--on", "ssh", "--hosts", "a,b", "--gpus", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "runner.cli", *words, "--set", f"launch.command=bash {tmp_path / 'own.sh'}"],
        cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_what_hosts_say_is_shown_and_kept(tmp_path: Path) -> None:
    launcher = by_ssh(tmp_path, "echo I am $NODE_RANK of $NNODES, hf_aaaaaaaaaaaaaaaaaaaa; echo bad >&2")
    out, said = launcher.communicate(timeout=60)
    run = tmp_path / "runs/quickstart"
    assert (launcher.returncode, out) == (0, f"{run}\n"), said
    assert "[a] I am 0 of 2, [redacted]\n" in said and "[b] I am 1 of 2, [redacted]\n" in said and "[b] bad\n" in said
    assert (run / "launch/node-1.log").read_text() == "I am 1 of 2, [redacted]\nbad\n"


def test_a_host_that_fails_ends_the_others(tmp_path: Path) -> None:
    own = "[ $NODE_RANK = 1 ] && exit 3; trap 'touch ended; exit 143' TERM; while :; do sleep 0.1; done"
    launcher = by_ssh(tmp_path, own)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 1 and "node 1 (b) ended with exit code 3; the other nodes were ended" in said
    assert (tmp_path / "ended").exists()


def test_a_second_interrupt_waits_for_no_host(tmp_path: Path) -> None:
    launcher = by_ssh(tmp_path, "trap '' TERM; touch began$NODE_RANK; while :; do sleep 0.1; done")
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("began*"))) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        launcher.send_signal(signal.SIGINT)
        time.sleep(1)
        assert launcher.poll() is None
        launcher.send_signal(signal.SIGINT)
        began = time.monotonic()
        launcher.communicate(timeout=60)
        assert launcher.returncode == 130 and time.monotonic() - began < 15
    finally:
        launcher.kill()


@pytest.mark.parametrize(
    "said,number", [("Job submitted, ID: 12", "12"), ("Managed Job ID: \033[1m7", "7"), ("done", "")]
)
def test_what_skypilot_calls_a_job_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, number: str
) -> None:
    tool(tmp_path, "sky", f"printf '%s\\n' \"$@\" > words; echo '{said}'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words = ["launch", "quickstart", "--on", "skypilot", "--gpus", "0", "--set", "launch.skypilot.storage=gs://a"]
    assert main(words) == 0
    run = Path(capsys.readouterr().out.strip())
    assert json.loads((run / "launch/launch.json").read_text())["id"] == number
    assert (tmp_path / "words").read_text().split() == [
        "jobs",
        "launch",
        "--yes",
        "--detach-run",
        f"{run}/launch/task.yaml",
    ]
    assert main(["runs"]) == 0
    assert "quickstart  launched" in capsys.readouterr().out
    tool(tmp_path, "sky", "echo no cloud; exit 1")
    assert main([*words, "--name", "other"]) == 1
    assert "no cloud" in capsys.readouterr().err and not (tmp_path / "runs/other").exists()
