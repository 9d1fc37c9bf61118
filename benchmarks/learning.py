"""Whether a GRPO recipe learns: its runs with several seeds, and the mean reward of each step with a 95 % interval.

Usage: python -m benchmarks.learning [RECIPE [SEED…]]

Runs the recipe (grpo_sums) once for each seed (1 2 3) in the current directory, those that are not there yet, without
scoring; then prints the table. The interval is Student's, over the seeds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

from recipes.files import read_json
from runner.runs.rundir import Run
from runner.runs.show import table

STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}  # 97.5 % quantile, by sample size


def train(recipe: str, seed: str) -> Run:
    run = Run(Path("runs", f"{recipe}-seed-{seed}").resolve())
    if not (run.path / "run.json").is_file():
        command = [*(sys.executable, "-m", "runner.cli", "run", recipe, "--no-eval"), "--name", run.name]
        subprocess.run([*command, "--set", f"training.seed={seed}"], check=True)
    if read_json(run.path / "run.json")["state"] != "succeeded":
        raise SystemExit(f"{run.path} has not succeeded: recipe resume {run.name}")
    return run


def interval(values: Sequence[float]) -> str:
    half = STUDENT[len(values)] * statistics.stdev(values) / sqrt(len(values))
    mean = statistics.mean(values)
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def main(recipe: str = "grpo_sums", *seeds: str) -> None:
    runs = [train(recipe, seed) for seed in seeds or ("1", "2", "3")]
    trained = [[line for line in run.steps() if "loss" in line] for run in runs]
    validated = [[line for line in run.steps() if "eval_reward" in line] for run in runs]
    names = ["reward", *sorted(name for name in trained[0][0] if name.startswith("reward/"))]
    print(f"{len(runs)} seeds; mean over the replies of a step, and over the seeds with its 95 % interval\n")
    rows = [("step", *names)]
    for lines in zip(*trained, strict=True):
        rows.append((f"{lines[0]['step']}", *(interval([line[name] for line in lines]) for name in names)))
    print(table(rows))
    first, last = ([lines[n]["reward"] for lines in trained] for n in (0, -1))
    print(f"\nlast - first step, paired by seed: {interval([b - a for a, b in zip(first, last, strict=True)])}")
    print("\ngreedy replies to the validation prompts")
    rows = [("step", *(f"eval_{name}" for name in names))]
    for lines in zip(*validated, strict=True):
        rows.append((f"{lines[0]['step']}", *(interval([line[f"eval_{name}"] for line in lines]) for name in names)))
    print(table(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
