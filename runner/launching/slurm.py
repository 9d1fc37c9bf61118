"""Slurm: one job of sbatch, one task on each node, queued again when its nodes are taken away."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from recipes import UserError
from runner.failure import Failure
from runner.launching.contract import Job, Launched, Request, Say
from runner.runs.rundir import LAUNCH

FILE = "job.sbatch"
ANSWER_S = 30  # that squeue may take
SCRIPT = """\
#!/bin/bash
# {name}: made by `recipe launch`. Submitting it again goes on with the run.
{options}

set -u
{variables}

# The first time this begins the run; after a requeue it goes on from the newest whole checkpoint.
{srun} bash -c {command}
code=$?

# Slurm requeues a job that it kills. One that ends by itself in its grace time after a preemption has to ask for it.
if [ "$code" -ne 0 ] && scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]'; then
  echo "preempted: queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def job(request: Request) -> Job:
    srun = ["srun", "--ntasks-per-node=1", "--kill-on-bad-exit=1", "--label", *request.launch.slurm.srun]
    text = SCRIPT.format(
        name=request.run.name,
        options="\n".join(f"#SBATCH {option}" for option in _options(request)),
        variables="\n".join(_variables(request)),
        srun=shlex.join(srun),
        command=shlex.quote(request.command_here()),
    )
    return Job(files={FILE: text}, commands=(("sbatch", "--parsable", str(request.directory / FILE)),))


def _options(request: Request) -> Iterator[str]:
    """sbatch's options, as they stand in its file."""
    launch, asked = request.launch, request.launch.slurm
    yield f"--job-name={request.run.name}"
    yield f"--nodes={request.machines.nodes}"
    yield "--ntasks-per-node=1"
    if launch.gpus:
        yield f"--gpus-per-node={launch.gpus}"
    named: dict[str, str | None] = {
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
    }
    named |= {"time": asked.time, "cpus-per-task": str(asked.cpus) if asked.cpus else None, "mem": asked.memory}
    yield from (f"--{name}={_quoted(value)}" for name, value in named.items() if value)
    yield "--requeue"
    yield "--open-mode=append"
    yield f"--output={_quoted(_pattern(request.directory) + '/slurm-%j.log')}"
    for option in asked.sbatch:
        name, equals, value = option.partition("=")
        yield f"{name}={_quoted(value)}" if equals else name


def _quoted(text: str) -> str:
    """A word as sbatch reads it in its file: of the characters in double quotes, it takes a backslash as the shell."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _pattern(directory: Path) -> str:
    """A directory as it stands in --output, where % begins a field.

    Raises:
        UserError: it holds what Slurm's patterns of file names cannot say.
    """
    text = str(directory)
    if re.search(r"[\\\n\r]", text):
        raise UserError(f"--runs-dir {text!r}: Slurm takes no path with a backslash or a line's end in it; use another")
    return text.replace("%", "%%")


def _variables(request: Request) -> Iterator[str]:
    yield 'export NNODES="$SLURM_NNODES"'
    yield "unset NODE_RANK  # each task takes its own from SLURM_NODEID"
    yield 'export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"'
    yield "export MASTER_PORT=$((20000 + SLURM_JOB_ID % 12000))  # two jobs can share a node"
    yield from (f"export {name}={shlex.quote(value)}" for name, value in request.variables().items())


def start(request: Request, job: Job, say: Say) -> str:
    (command,) = job.commands
    if not shutil.which(command[0]):
        raise UserError("--on slurm: there is no sbatch here; launch from a login node of the cluster")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"sbatch refused the job: {done.stderr.strip()}", cause="see what was submitted with --dry-run")
    number = done.stdout.strip().partition(";")[0]
    say(f"job {number}; its log: {request.directory / f'slurm-{number}.log'}")
    say(f"follow: recipe runs; end: scancel {number}")
    return number


def states(launched: Mapping[str, tuple[Path, Launched]], say: Say) -> Mapping[str, str]:
    if not shutil.which("squeue"):
        return {}
    columns = "JobID:.30,State:.30,RestartCnt:.10"
    command = ["squeue", "--noheader", "--me", "--states=all", f"--Format={columns}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        say(f"note: squeue has not answered for {ANSWER_S} s: of {len(launched)} jobs no state is known")
        return {}
    if done.returncode:
        say(f"note: of {len(launched)} jobs no state is known: {done.stderr.strip()}")
        return {}
    known = {number: (state.lower(), again) for number, state, again in map(str.split, done.stdout.splitlines())}
    found = {}
    for name, (run, one) in launched.items():
        state, again = known.get(one.id, ("", "0"))
        if state in ("pending", "requeued", "requeue_hold", "special_exit"):
            found[name] = "pending" if again == "0" else _why_again(run / LAUNCH / f"slurm-{one.id}.log")
        elif state in ("configuring", "running", "suspended", "completing", "stopped", "resizing", "signaling"):
            found[name] = state
    return found


def _why_again(log: Path) -> str:
    """Why a job waits again, by the last word on it in its log: of a node that is gone, nobody may have written one."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    said = re.findall(r"DUE TO [A-Z ]+|^preempted: queued again$", text, re.MULTILINE)
    return "preempted" if said and said[-1].strip().lower().endswith(("preemption", "queued again")) else "requeued"
