"""DeepSpeed's ZeRO-2 for real, in two processes on a CPU: our plan trains as DDP does, and leaves the same model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.contract import Topology
from adapters.llamafactory import LOCKS, checkpoints, read_metrics
from recipes import load
from recipes.files import write_text
from runner.files import code_directory
from runner.machine.process import clean_environment
from runner.runs import rundir
from runner.training.planning import make_plan
from runner.training.prepare import prepare
from tests.real.conftest import inside

pytestmark = [pytest.mark.real, pytest.mark.slow]
TWO = Topology(processes=2)
# What it imports beside what LLaMA-Factory's environment for a CPU has.
PACKAGES = ("deepspeed", "hjson", "ninja", "py-cpuinfo", "msgpack", "einops")


@pytest.fixture(scope="module")
def deepspeed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked version in a directory of its own: the lock for a CPU has none, as it is of use on GPUs only."""
    lock = LOCKS["cuda"].read_text(encoding="utf-8").splitlines()
    wanted = [line.partition(";")[0].strip() for line in lock if line.partition("==")[0] in PACKAGES]
    assert len(wanted) == len(PACKAGES)
    target = tmp_path_factory.mktemp("deepspeed")
    built = ("--no-deps", "--quiet", "--target", str(target))
    env = clean_environment({"DS_BUILD_OPS": "0"})
    subprocess.run([sys.executable, "-m", "pip", "install", *built, *wanted], env=env, check=True)
    return target


def trained(strategy: str, deepspeed: Path, python: Path, model: Path, directory: Path) -> tuple[list[float], Path]:
    """Losses of four steps of two processes, and the last checkpoint."""
    given = [f"model.path={model}", "training.max_steps=4", "data.train[0].max_samples=40", "eval={}"]
    given += ["data.validation={}", "training.micro_batch_size=2", f"distributed.strategy={strategy}"]
    loaded = load("quickstart", given)
    run = rundir.create(loaded, directory, strategy)
    prepare(run, loaded.recipe, python, str(model), print)
    plan = make_plan(loaded, TWO, run.path, python=python)
    for name, text in plan.files.items():
        write_text(run.path / name, text)
    env = clean_environment({
        **plan.env, "PYTHONPATH": f"{code_directory()}:{deepspeed}", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1",
        # It compiles its collectives for a CPU at the first use.
        "CC": "cc", "CXX": "c++", "TORCH_EXTENSIONS_DIR": str(deepspeed / "built"),
        "PATH": f"{deepspeed / 'bin'}:{python.parent}:/usr/local/bin:/usr/bin:/bin",
    })  # fmt: skip
    done = subprocess.run(plan.argv, env=env, cwd=run.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = [read_metrics(json.loads(line)) for line in (run.path / plan.metrics).read_text().splitlines()]
    newest = checkpoints(run.path / "checkpoints")[0]
    assert newest.step == 4
    return [line["loss"] for line in lines if line and "loss" in line], newest.path


GAP = """
import sys
from safetensors.torch import load_file
one, other = (load_file(f"{path}/adapter_model.safetensors") for path in sys.argv[1:])
assert one.keys() == other.keys()
gap = max(float((one[name] - other[name]).abs().max()) for name in one)
print(gap, max(float(weight.abs().max()) for weight in one.values()))
"""


@pytest.mark.skipif(not shutil.which("c++"), reason="DeepSpeed compiles its collectives for a CPU")
def test_zero2_trains_as_ddp_does(deepspeed: Path, llamafactory_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    given = (deepspeed, llamafactory_python, tiny_model, tmp_path)
    (zero, sharded), (ddp, whole) = trained("deepspeed-zero2", *given), trained("ddp", *given)
    assert len(zero) == 4 and zero == pytest.approx(ddp, rel=1e-6)
    states = {file.name for file in sharded.glob("global_step4/*zero_pp_rank_*_optim_states.pt")}
    assert len(states) == 2, "each process keeps its share of the optimizer's states"
    gap, size = map(float, inside(llamafactory_python, GAP, str(sharded), str(whole), cwd=tmp_path).split()[-2:])
    assert gap < 1e-5 < size
