"""DeepSpeed's ZeRO-2 for real, in two processes on a CPU: our plan trains as DDP does, and leaves the same model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.llamafactory import LOCKS
from runner.machine.process import clean_environment
from tests.real.spread import Spread

pytestmark = [pytest.mark.real, pytest.mark.slow]
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


@pytest.mark.skipif(not shutil.which("c++"), reason="DeepSpeed compiles its collectives for a CPU")
def test_zero2_trains_as_ddp_does(deepspeed: Path, llamafactory_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    programs = f"{deepspeed / 'bin'}:{llamafactory_python.parent}:/usr/local/bin:/usr/bin:/bin"
    env = {
        "DS_ACCELERATOR": "cpu", "PATH": programs,
        # It compiles its collectives for a CPU at the first use.
        "CC": "cc", "CXX": "c++", "TORCH_EXTENSIONS_DIR": str(deepspeed / "built"),
    }  # fmt: skip
    spread = Spread(llamafactory_python, tiny_model, tmp_path, deepspeed, env)
    zero, ddp = spread.train("deepspeed-zero2"), spread.train("ddp")
    assert len(zero.losses) == 4 and zero.losses == pytest.approx(ddp.losses, rel=1e-6)
    sharded, whole = zero.checkpoints[0], ddp.checkpoints[0]
    states = {file.name for file in sharded.path.glob("global_step4/*zero_pp_rank_*_optim_states.pt")}
    assert len(states) == 2, "each process keeps its share of the optimizer's states"
    gap, size = spread.gap(sharded, whole)
    assert gap < 1e-5 < size
