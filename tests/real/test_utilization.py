"""The operations of MFU beside those that PyTorch's own counter sees in a real forward and backward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.memory import Case, model
from recipes import load
from runner.fit.work import model_flops_per_token
from tests.real.conftest import inside

pytestmark = pytest.mark.real

COUNT = """
import json, sys, torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM
config = AutoConfig.for_model(**json.loads(sys.argv[1]))
config._attn_implementation = "eager"  # whose products the counter sees
ids = torch.arange(64)[None]
for lora in (True, False):
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if lora:
        made = get_peft_model(made, LoraConfig(r=1, target_modules="all-linear"))
    with FlopCounterMode(display=False) as counter:
        made(input_ids=ids, labels=ids).loss.backward()
    print(counter.get_total_flops() / 64)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B"])
def test_the_operations_are_those_that_pytorch_counts(name: str, llamafactory_python: Path, tmp_path: Path) -> None:
    config = model(name, 2)
    shown = inside(llamafactory_python, COUNT, json.dumps(config), cwd=tmp_path).split()[-2:]
    for tuning, found in zip(("lora", "full"), map(float, shown), strict=True):
        setup = Case(config=config, tuning=tuning).setup()
        assert model_flops_per_token(load("quickstart").recipe, setup, 64) == pytest.approx(found, rel=0.02)
