"""What a GPU gives: tokens a second, peak memory and loss of our plans beside the backends' own defaults.

python -m benchmarks.gpu [--jobs NAME,NAME/WAY] [--steps 20] [--minutes 8] [--out DIR] [--env current] [--work DIR]

Random weights in the shape of real models, rows of real lengths from a seeded mixture. Each job runs as `recipe run`,
with rows as they are and packed, and by the backend's own command line (`llamafactory-cli train`, or torchrun on verl's
SFT trainer) on the same tokenized rows, with the same batches and schedule, and its defaults for the rest. Measured are
the steps after the fifth. Results are kept in DIR/gpu.json and a second call goes on where the first stopped;
DIR/gpu.md is the table. Without a GPU the same is done with a tiny model on the CPU: it shows that it works.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu import made
from benchmarks.gpu.defaults import heard, trained_by_default
from benchmarks.gpu.jobs import DEFAULTS, FEW, JOBS, SHAPES, STEPS, TINY, WARM, Job
from benchmarks.gpu.table import TOLD, Result, smi, table
from recipes.errors import UserError
from recipes.typed import read_typed, write_typed
from runner.failure import Failure
from runner.files import code_directory
from runner.fit.gpus import named
from runner.machine.environments import current_python, ensure, environment
from runner.machine.process import clean_environment
from runner.machine.topology import topology
from runner.runs.rundir import Run

# The attention of packs as it is used, with its gradients, beside each row alone in float64; grouped heads.
ATTENTION = """
import torch
from adapters import packed
device = "cuda" if torch.cuda.is_available() else "cpu"
kind = torch.bfloat16 if device == "cuda" else torch.float32
torch.manual_seed(0)
rows = torch.tensor([[1] * 300 + [2] * 5 + [3] * 167 + [0] * 40, [1] * 256 + [2] * 256], device=device)
attention = packed.Attention(lambda given: packed.by_number(rows))
attention.bounds = attention.read({})
exact = [torch.randn(2, heads, 512, 64, device=device, dtype=kind).double().requires_grad_() for heads in (8, 2, 2)]
used = [part.detach().to(kind).requires_grad_() for part in exact]
out, _ = attention.attend(None, *used, None)
flat = [part.transpose(1, 2).flatten(0, 1) for part in exact]
alone = packed.one_by_one(*flat, attention.bounds[0].tolist()).view(out.shape)
weights = torch.randn_like(alone)
(out.double() * weights).sum().backward(); (alone * weights).sum().backward()
pairs = [(out.double(), alone), *((a.grad.double(), b.grad) for a, b in zip(used, exact))]
print(max(float((a - b).norm() / b.norm()) for a, b in pairs))
"""


def main(given: argparse.Namespace) -> int:
    deadline = time.monotonic() + given.minutes * 60
    machines = topology()
    jobs = JOBS if machines.gpus else TINY
    every = {f"{name}/{way}": (name, way) for name, job in jobs.items() for way in job.variants()}
    names = given.jobs.split(",") if given.jobs else list(jobs)
    if unknown := set(names) - jobs.keys() - every.keys():
        print(f"no job {', '.join(sorted(unknown))}; here are {', '.join(jobs)}, or one way: {next(iter(every))}")
        return 2
    if not machines.gpus:
        print("no GPU here: tiny models on the CPU, which show that it works and nothing of speed")
    given.out.mkdir(parents=True, exist_ok=True)
    results = _results(given.out)
    wanted = [one for name in names for one in every if one == name or one.startswith(f"{name}/")]
    todo = [every[one] for one in dict.fromkeys(wanted) if one not in results]
    pythons = {
        one: _python(given.env, one, machines.device) for one in sorted({jobs[name].backend for name, _ in todo})
    }
    failed, broken = 2 if None in pythons.values() else 0, set[str]()
    if python := next(filter(None, pythons.values()), None):
        print(f"attention of packs: {_attention_error(python):.1e} from float64, relative")
    for name, variant in todo:
        python = pythons[jobs[name].backend]
        if python is None or f"{name}/{DEFAULTS.get(variant)}" in broken:
            continue
        if time.monotonic() > deadline:
            print("the time is over; the same command goes on from here")
            break
        try:
            results[f"{name}/{variant}"] = found = measure(name, jobs[name], variant, given, python)
        except subprocess.CalledProcessError:  # what it said is shown; the next may do
            failed = failed or 1
            broken.add(f"{name}/{variant}")
            continue
        write_typed(given.out / "gpu.json", {key: asdict(value) for key, value in results.items()})
        print(f"{name}/{variant}: {found.tokens_per_s:,.0f} tokens/s, {found.memory_gb:.1f} GB", flush=True)
        (given.out / "gpu.md").write_text(table(results, jobs), encoding="utf-8")
    print(table(results, jobs))
    return failed


def _python(env: str, backend: str, device: str) -> Path | None:
    """The interpreter of a backend's trainings; None, and why, where there is none."""
    try:
        return current_python(backend) if env == "current" else ensure(environment(backend, device), print)
    except (Failure, UserError) as error:
        print(error)
        return None


def _attention_error(python: Path) -> float:
    env = clean_environment({"PYTHONPATH": str(code_directory())})
    done = subprocess.run([python, "-c", ATTENTION], env=env, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _results(out: Path) -> dict[str, Result]:
    file = out / "gpu.json"
    return read_typed(dict[str, Result], file) if file.is_file() else {}


def measure(name: str, job: Job, variant: str, given: argparse.Namespace, python: Path) -> Result:
    """Train, and say what it gave.

    Raises:
        subprocess.CalledProcessError: a training failed; its output has been shown.
    """
    started, runs = time.monotonic(), given.work / "runs"
    model, log = made.model(given.work, job.shape, python), given.out / f"{name}-{variant}.log"
    run, predicted = Run((runs / f"{name}-{DEFAULTS.get(variant, variant)}").absolute()), None
    if variant in DEFAULTS:
        found = trained_by_default(run, python, log)
        lines, memory = found.steps, found.memory_gb
    else:
        rows, steps = made.rows(given.work, job), given.steps or (STEPS if topology().gpus else FEW)
        recipe = made.recipe(given.work, name, job, variant, model=model, rows=rows, steps=steps)
        command = [sys.executable, "-m", "runner.cli", "run", str(recipe), "--no-eval", "--env", given.env]
        command += ["--runs-dir", str(runs), "--name", run.name]
        shutil.rmtree(run.path, ignore_errors=True)
        heard(command, Path.cwd(), dict(os.environ), log)
        lines = run.steps()
        memory = max(line["memory_gb"] for line in lines)
        predicted = run.read().memory.predicted_gb
        for large in ("checkpoints", "model"):  # rented disks are small
            shutil.rmtree(run.path / large, ignore_errors=True)
    tokens = {line["step"]: line["tokens"] for line in run.steps() if "loss" in line}
    warm = [line for line in lines if "loss" in line and line["step"] > min(WARM, len(tokens) - 2)]
    speed = sum(tokens[line["step"]] for line in warm) / sum(line["step_time_s"] for line in warm)
    losses = [line["loss"] for line in lines if "loss" in line]
    return Result(
        tokens_per_s=speed,
        mfu=_mfu(job, speed),
        memory_gb=memory if topology().gpus else 0.0,
        predicted_gb=predicted,
        first_loss=losses[0],
        last_loss=losses[-1],
        seconds=time.monotonic() - started,
        versions={name: version for name in TOLD if (version := run.read().versions.get(name))},
    )


def _mfu(job: Job, speed: float) -> float | None:
    """By 6 operations a parameter and token, 4 where the base's weights have no gradients; attention not counted."""
    card, sizes = named(next(iter(smi("name")), "")), SHAPES[job.shape]
    peak = card.flops if card else None
    each, head = 6 if job.tuning["type"] == "full" else 4, sizes.hidden * sizes.vocabulary
    return each * (sizes.linear_weights + head) * speed / peak if peak else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", default="", help="some of the jobs, by name, or by name and way")
    parser.add_argument("--steps", type=int, default=0, help=f"of each training: {STEPS} unless told, {FEW} on a CPU")
    parser.add_argument("--minutes", type=float, default=8, help="begin nothing after these")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="where the results are kept")
    parser.add_argument("--work", type=Path, default=Path("gpu-check/work"), help="models, rows, runs: many gigabytes")
    parser.add_argument("--env", choices=["locked", "current"], default="locked")
    sys.exit(main(parser.parse_args()))
