"""What the runner costs: wall time of a run over the same config under llamafactory-cli, alternating, same losses.

python -m benchmarks.overhead [ROUNDS]

Environment ready and data prepared on both sides; one thread. Exit code 1: a ratio above 1.05, or a loss that differs.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.measure import once
from recipes import load
from runner.machine.bundled import located
from runner.machine.process import clean_environment
from runner.machine.topology import topology
from runner.runs import rundir as rundir
from runner.runs.rundir import Run
from runner.training.planning import make_plan
from runner.training.prepare import prepare
from runner.training.train import Options, ready_python

LIMIT = 1.05
OVERRIDES = [
    "training.max_steps=8",
    "eval.loss_every=null",
    "checkpoint.every=null",
    "model.path=bundled:smollm2-135m-instruct",
]


def main(rounds: int) -> int:
    os.environ["OMP_NUM_THREADS"] = "1"
    ratios, equal = [], True
    with tempfile.TemporaryDirectory() as work:
        for number in range(rounds):
            run, python = prepared(Path(work), f"round-{number}")
            config = run.path / "direct.yaml"
            config.write_text(direct_config(run, python), encoding="utf-8")
            ours_first = number % 2 == 0
            commands = {
                "ours": [sys.executable, "-m", "runner.cli", "resume", str(run.path), "--no-eval"],
                "direct": [str(python.parent / "llamafactory-cli"), "train", str(config)],
            }
            walls = {
                n: once(commands[n], run.path, clean_environment()).wall for n in sorted(commands, reverse=ours_first)
            }
            equal &= losses(run) == direct_losses(run)
            ratios.append(walls["ours"] / walls["direct"])
            seconds = f"ours {walls['ours']:.1f} s, direct {walls['direct']:.1f} s"
            print(f"round {number + 1}: {seconds}, ratio {ratios[-1]:.3f}")
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.3f} (limit {LIMIT}); losses {'equal to the last digit' if equal else 'DIFFER'}")
    return int(ratio > LIMIT or not equal)


def prepared(work: Path, name: str) -> tuple[Run, Path]:
    """A run that has its data and was stopped before the training."""
    loaded = load("quickstart", OVERRIDES)
    python = ready_python(loaded.recipe, topology(), Options(runs_dir=work))
    run = rundir.create(loaded, work, name)
    prepare(run, loaded.recipe, python, located(loaded.recipe.model.path), lambda text: None)
    run.update(state="interrupted")
    return run, python


def direct_config(run: Run, python: Path) -> str:
    plan = make_plan(run.recipe(), topology(), run.path, python=python)
    config = yaml.safe_load(plan.files["backend/train.yaml"])
    return yaml.safe_dump(config | {"output_dir": str(run.path / "direct")})


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in run.steps() if "loss" in line]


def direct_losses(run: Run) -> list[float]:
    history = json.loads((run.path / "direct" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [line["loss"] for line in history if "loss" in line]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
