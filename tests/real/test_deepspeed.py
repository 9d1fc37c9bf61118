"""DeepSpeed for real, in two processes on a CPU: our plan trains as DDP does, leaves its model, and goes on from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.llamafactory import LOCKS
from runner.machine.process import clean_environment
from tests.real.spread import FULL, LORA, Spread, after

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


# transformers divides a model for ZeRO-3 before DeepSpeed's process group is there, if it is on a CPU.
AT_ONCE = """
def then(module):
    import deepspeed, os
    if "RANK" in os.environ:
        deepspeed.init_distributed(dist_backend="gloo")
"""


@pytest.mark.skipif(not shutil.which("c++"), reason="DeepSpeed compiles its collectives for a CPU")
@pytest.mark.parametrize("tuning", [FULL, LORA])
@pytest.mark.parametrize("stage", [2, 3])
def test_it_trains_as_ddp_does_and_goes_on(
    stage: int, tuning: str, deepspeed: Path, llamafactory_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    env = {
        "DS_ACCELERATOR": "cpu", "PATH": f"{deepspeed}/bin:{llamafactory_python.parent}:/usr/local/bin:/usr/bin:/bin",
        # It compiles its collectives for a CPU at the first use.
        "CC": "cc", "CXX": "c++", "TORCH_EXTENSIONS_DIR": str(deepspeed / "built"),
    }  # fmt: skip
    path = [after(tmp_path / "path", "llamafactory.train.tuner", AT_ONCE)] if stage == 3 else []
    spread = Spread(llamafactory_python, tiny_model, tmp_path, [*path, deepspeed], env)
    newest = spread.goes_on(f"deepspeed-zero{stage}", tuning).checkpoints[0]
    states = {file.name for file in newest.path.glob("global_step4/*zero_pp_rank_*_optim_states.pt")}
    assert len(states) == 2, "each process keeps its share of the optimizer's states"
