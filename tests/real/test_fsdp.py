"""FSDP2 for real, in two processes on a CPU: it trains as DDP does, leaves the whole model, and goes on from it.

accelerate shards over GPUs only; two processes that it takes for GPUs are all that this changes.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.real.spread import Spread

pytestmark = pytest.mark.real
AS_GPUS = """
import importlib.abc, importlib.util, sys


class AsGpus(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "accelerate.state":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            begin, kinds = module.PartialState.__init__, module.DistributedType

            def init(self, *args, **given):
                begin(self, *args, **given)
                if self.distributed_type == kinds.MULTI_CPU:
                    self.distributed_type = kinds.MULTI_GPU

            module.PartialState.__init__ = init

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, AsGpus())
"""


@pytest.fixture
def spread(llamafactory_python: Path, tiny_model: Path, tmp_path: Path) -> Spread:
    path = tmp_path / "path"
    path.mkdir()
    (path / "sitecustomize.py").write_text(AS_GPUS)
    return Spread(llamafactory_python, tiny_model, tmp_path, path, {})


FULL, LORA = "tuning={type: full}", "tuning={type: lora, rank: 4}"


@pytest.mark.parametrize("tuning", [FULL, pytest.param(LORA, marks=pytest.mark.slow)])
def test_it_trains_as_ddp_does_and_goes_on(tuning: str, spread: Spread) -> None:
    fields = (tuning, "checkpoint={every: 2}", "training.learning_rate=1.0e-3")
    sharded, whole = spread.train("fsdp2", *fields), spread.train("ddp", *fields)
    assert len(sharded.losses) == 4 and sharded.losses == pytest.approx(whole.losses, rel=1e-5)
    assert [one.step for one in sharded.checkpoints] == [4, 2]
    gap, size = spread.gap(sharded.checkpoints[0], whole.checkpoints[0])
    assert gap < 1e-4 < size
    again = spread.train("fsdp2", *fields, name="fsdp2", resume=sharded.checkpoints[1])
    assert again.losses == pytest.approx(sharded.losses[2:], rel=1e-6)
    gap, _ = spread.gap(again.checkpoints[0], whole.checkpoints[0])
    assert gap < 1e-4


@pytest.mark.slow
def test_its_loss_has_the_digits_of_fp32(spread: Spread) -> None:
    losses = spread.train("fsdp2", FULL, "training.precision=bf16").losses
    bits = [struct.unpack("<I", struct.pack("<f", loss))[0] for loss in losses]
    assert any(each & 0xFFF for each in bits), losses  # bf16 has none of the last 16; means of a few have some
