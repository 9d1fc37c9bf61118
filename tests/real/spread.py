"""Trainings that are spread over two processes of a CPU as their plan spreads them over GPUs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.contract import Checkpoint, Topology
from adapters.llamafactory import checkpoints, read_metrics
from recipes import load
from recipes.files import write_text
from runner.files import code_directory
from runner.machine.process import clean_environment
from runner.runs import rundir
from runner.training.planning import make_plan
from runner.training.prepare import prepare
from tests.real.conftest import inside

TWO = Topology(processes=2)
FULL, LORA = "tuning={type: full}", "tuning={type: lora, rank: 4}"
GAP = """
import sys
from pathlib import Path
from safetensors.torch import load_file
one, other = (load_file(next(Path(path).glob("*model.safetensors"))) for path in sys.argv[1:])
if "lm_head.weight" in one.keys() - other.keys():  # tied; FSDP's whole weights have it twice
    assert one.pop("lm_head.weight").equal(one["model.embed_tokens.weight"])
assert one.keys() == other.keys()
gap = max(float((one[name] - other[name]).abs().max()) for name in one)
print(gap, max(float(weight.abs().max()) for weight in one.values()))
"""

# What a sitecustomize.py does once a module is there.
AFTER = """
import importlib.abc, importlib.util, sys


class After(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            then(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, After())
"""


def after(directory: Path, name: str, then: str) -> Path:
    """A directory for the import path, whose processes call `then(module)` when the module of that name is imported."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(f"NAME = {name!r}\n{AFTER}\n{then}")
    return directory


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Losses of the steps that one start took, and the checkpoints that are there, the newest first."""

    losses: list[float]
    checkpoints: list[Checkpoint]


@dataclass(frozen=True)
class Spread:
    """LLaMA-Factory in two processes; `path`: of what they import besides, where they do not train by DDP."""

    python: Path
    model: Path
    directory: Path
    path: Sequence[Path]
    env: Mapping[str, str]

    def goes_on(self, strategy: str, tuning: str) -> Trained:
        """Check that it trains as DDP does, leaves the same weights, and goes on from the middle; what it gave."""
        fields = (tuning, "checkpoint={every: 2}", "training.learning_rate=1.0e-3")
        sharded, whole = self.train(strategy, *fields), self.train("ddp", *fields)
        assert len(sharded.losses) == 4 and sharded.losses == pytest.approx(whole.losses, rel=1e-5)
        assert [one.step for one in sharded.checkpoints] == [4, 2]
        gap, size = self.gap(sharded.checkpoints[0], whole.checkpoints[0])
        assert gap < 1e-5 < size
        again = self.train(strategy, *fields, name=strategy, resume=sharded.checkpoints[1])
        assert again.losses == pytest.approx(sharded.losses[2:], rel=1e-6)
        gap, _ = self.gap(again.checkpoints[0], whole.checkpoints[0])
        assert gap < 1e-5
        return sharded

    def train(self, strategy: str, *fields: str, name: str = "", resume: Checkpoint | None = None) -> Trained:
        """Four steps of the quickstart; with `resume`, those that are left of the run of that name."""
        given = [f"model.path={self.model}", "training.max_steps=4", "data.train[0].max_samples=40", "eval={}"]
        given += ["data.validation={}", "training.micro_batch_size=2", f"distributed.strategy={strategy}", *fields]
        loaded, name = load("quickstart", given), name or strategy
        run = rundir.Run(self.directory / name)
        if not resume:
            run = rundir.create(loaded, self.directory, name)
            prepare(run, loaded.recipe, self.python, str(self.model), print)
        plan = make_plan(loaded, TWO, run.path, python=self.python, resume=resume, attempt=2 if resume else 1)
        for file, text in plan.files.items():
            write_text(run.path / file, text)
        path = [code_directory(), *(self.path if strategy != "ddp" else ())]
        told = {"PYTHONPATH": ":".join(map(str, path)), "OMP_NUM_THREADS": "1"}
        env = clean_environment({**plan.env, **told, **self.env})
        for command in () if resume else plan.before:
            subprocess.run(command, env=env, cwd=run.path, check=True)
        done = subprocess.run(plan.argv, env=env, cwd=run.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-9000:]
        lines = [read_metrics(json.loads(line)) for line in (run.path / plan.metrics).read_text().splitlines()]
        return Trained(
            losses=[line["loss"] for line in lines if line and "loss" in line],
            checkpoints=list(checkpoints(run.path / "checkpoints")),
        )

    def gap(self, one: Checkpoint, other: Checkpoint) -> tuple[float, float]:
        """The largest difference of two checkpoints' weights, and the largest weight."""
        found = inside(self.python, GAP, str(one.path), str(other.path), cwd=self.directory).split()
        return float(found[-2]), float(found[-1])
