"""The backends' own command lines on a run's rows: its batches and schedule, their defaults for the rest."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from runner.files import code_directory
from runner.machine.process import clean_environment
from runner.machine.topology import topology
from runner.runs.rundir import Run

# What our plans choose, and the backend's defaults would not.
CHOICES = {
    "llamafactory": ("enable_liger_kernel", "optim"),
    "verl": (
        "data.use_dynamic_bsz",
        "data.micro_batch_size_per_gpu",
        "data.num_workers",
        "model.use_remove_padding",
        "model.use_liger",
        "model.use_fused_kernels",
        "engine.strategy",
        "engine.mixed_precision",
    ),
}
NEED_A_GPU = ("engine.strategy", "engine.mixed_precision")  # verl's defaults of these
# Told by the backend's own command line at its end.
PEAK = """
import atexit, sys
@atexit.register
def tell():
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        print("peak memory", torch.cuda.max_memory_allocated() / 1e9, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class ByDefault:
    """steps: step, loss, step_time_s (seconds between two prints); peak memory in GB, 0 on a CPU."""

    steps: list[dict[str, float]]
    memory_gb: float


def trained_by_default(run: Run, python: Path, log: Path) -> ByDefault:
    """Train as `run` did, by the backend's own command line.

    Raises:
        subprocess.CalledProcessError: it failed; its output has been shown.
    """
    work = run.path / "default"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "sitecustomize.py").write_text(PEAK, encoding="utf-8")
    backend = run.read().backend
    config = yaml.safe_load((run.path / "backend" / "train.yaml").read_text(encoding="utf-8"))
    for key in CHOICES[backend]:
        if topology().gpus or key not in NEED_A_GPU:
            _take_out(config, key.split("."))
    begin, read, printed = WAYS[backend]
    command = [str(python), *begin(config, work)]
    told = {"PYTHONPATH": f"{work}:{code_directory()}", "PYTHONUNBUFFERED": "1", "DISABLE_VERSION_CHECK": "1"}
    env = clean_environment(
        {**run.read().attempts[-1].env, **told, "VERL_FILE_LOGGER_PATH": str(work / "metrics.jsonl")}
    )
    lines = heard(command, work, env, log)
    times = [at for at, line in lines if printed in line]
    paces = [0.0, *(after - before for before, after in pairwise(times))]  # the first step's begin is not printed
    steps = [
        {"step": step, "loss": loss, "step_time_s": pace} for (step, loss), pace in zip(read(work), paces, strict=True)
    ]
    shutil.rmtree(work)
    peaks = (float(line.split()[-1]) for _, line in lines if line.startswith("peak memory"))
    return ByDefault(steps=steps, memory_gb=max(peaks, default=0.0))


def _take_out(tree: dict[str, Any], path: Sequence[str]) -> None:
    for name in path[:-1]:
        tree = tree.get(name, {})
    tree.pop(path[-1], None)


def _write(config: dict[str, Any], work: Path) -> None:
    (work / "train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def _llamafactory(config: dict[str, Any], work: Path) -> list[str]:
    _write(config | {"output_dir": str(work)}, work)
    return ["-m", "llamafactory.cli", "train", str(work / "train.yaml")]


def _llamafactory_losses(work: Path) -> list[tuple[int, float]]:
    history = json.loads((work / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [(line["step"], line["loss"]) for line in history if "loss" in line]


def _verl(config: dict[str, Any], work: Path) -> list[str]:
    config["trainer"]["default_local_dir"] = str(work / "checkpoints")
    _write(config, work)
    own = ["-m", "verl.trainer.sft_trainer", "--config-dir", str(work), "--config-name", "train"]
    return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", *own]


def _verl_losses(work: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (work / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line["data"]["train/loss"]) for line in lines if "train/loss" in line["data"]]


# How a training begins, where its losses are, and what the line of a step has.
WAYS = {
    "llamafactory": (_llamafactory, _llamafactory_losses, "{'loss'"),
    "verl": (_verl, _verl_losses, " - train/loss:"),
}


def heard(command: Sequence[str], cwd: Path, env: dict[str, str], log: Path) -> list[tuple[float, str]]:
    """The lines of a command's output with when they came; all of it is kept in a log, and shown where it fails."""
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout
    found = [(time.monotonic(), line) for line in child.stdout]
    log.write_text("".join(line for _, line in found), encoding="utf-8")
    if child.wait():
        print("".join(line for _, line in found[-40:]))
        raise subprocess.CalledProcessError(child.returncode, command)
    return found
