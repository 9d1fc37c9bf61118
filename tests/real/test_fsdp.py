"""FSDP2 for real, in two processes on a CPU: it trains as DDP does, leaves the whole model, and goes on from it.

accelerate shards over GPUs only; two processes that it takes for GPUs are all that this changes.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.real.spread import FULL, LORA, Spread, after

pytestmark = pytest.mark.real
AS_GPUS = """
def then(module):
    begin, kinds = module.PartialState.__init__, module.DistributedType

    def init(self, *args, **given):
        begin(self, *args, **given)
        if self.distributed_type == kinds.MULTI_CPU:
            self.distributed_type = kinds.MULTI_GPU

    module.PartialState.__init__ = init
"""


@pytest.fixture
def spread(llamafactory_python: Path, tiny_model: Path, tmp_path: Path) -> Spread:
    path = after(tmp_path / "path", "accelerate.state", AS_GPUS)
    return Spread(llamafactory_python, tiny_model, tmp_path, [path], {})


WHOLE = "tuning={type: lora, rank: 4, modules_to_save: [embed_tokens, lm_head]}"  # which are tied
PLUS = "tuning={type: lora, rank: 4, lora_plus_ratio: 4}"


@pytest.mark.parametrize("tuning", [FULL, *(pytest.param(one, marks=pytest.mark.slow) for one in (LORA, WHOLE, PLUS))])
def test_it_trains_as_ddp_does_and_goes_on(tuning: str, spread: Spread) -> None:
    spread.goes_on("fsdp2", tuning)


@pytest.mark.slow
def test_its_loss_has_the_digits_of_fp32(spread: Spread) -> None:
    losses = spread.train("fsdp2", FULL, "training.precision=bf16").losses
    bits = [struct.unpack("<I", struct.pack("<f", loss))[0] for loss in losses]
    assert any(each & 0xFFF for each in bits), losses  # bf16 has none of the last 16; means of a few have some
