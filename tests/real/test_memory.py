"""The estimate of memory beside PyTorch's own tracker, transformers' counts and a model that is really quantized."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from benchmarks.memory import (
    CLOSE,
    LENGTHS,
    MODELS,
    Case,
    Measured,
    difference,
    estimated,
    fsdp,
    grid,
    measure,
    model,
    odd,
)
from recipes.typed import to_json
from runner.fit.memory import BITS, LOG_PROBS, logits, trainable, weights
from runner.fit.models import families
from runner.fit.shapes import shape
from runner.fit.step import Lora, Setup
from tests.real.conftest import inside

pytestmark = [pytest.mark.real, pytest.mark.thorough]
THOROUGH = bool(os.environ.get("RECIPE_THOROUGH"))
LAYERS = None if THOROUGH else 2  # a layer more adds what a layer has: CI looks at two
KINDS = {str(config["model_type"]): name for name, config in reversed(families().items())}  # one model of each


Tracked = dict[str, list[tuple[Case, Measured]]]


def small() -> list[Case]:
    """Models with a vocabulary of 1,024: the layers' activations decide, and not the logits."""
    names = MODELS if THOROUGH else MODELS[1::3]
    configs = [model(name, 3) | {"vocab_size": 1024, "pad_token_id": 0} for name in names]
    return [
        Case(config=config, tuning=tuning, checkpointing=again, length=4096)
        for config, tuning, again in product(configs, ("lora", "full"), (True, False))
    ]


@pytest.fixture(scope="module")
def tracked(llamafactory_python: Path) -> Tracked:
    """The cases of all tests, counted by one child: most of a second one's time would go into its imports."""
    names = list(families()) if THOROUGH else list(KINDS.values())
    groups = {
        # Of most models one of four settings, in turns.
        "grid": [case for _, case in grid(LAYERS, LENGTHS if THOROUGH else LENGTHS[:1])][:: 1 if THOROUGH else 6],
        "odd": [case for _, case in odd(LAYERS)][: None if THOROUGH else 8],
        "small": small(),
        "fsdp": [case for _, case in fsdp()][:: 1 if THOROUGH else 6],
        "parameters": [
            Case(config=model(name), tuning=tuning, length=0) for name in names for tuning in ("full", "lora")
        ],
    }
    found = iter(measure(llamafactory_python, [case for cases in groups.values() for case in cases]))
    return {name: [(case, next(found)) for case in cases] for name, cases in groups.items()}


@pytest.mark.parametrize("group", ["grid", "odd", "small", "fsdp"])
def test_the_peaks_are_within_ten_percent_of_what_pytorch_tracks(group: str, tracked: Tracked) -> None:
    """Seven models, LoRA and full, with and without checkpointing; masks, eager attention, pairs; FSDP2."""
    wrong = []
    for case, found in tracked[group]:
        guess = estimated(case)
        off = difference(case, guess, found)
        config = f"{case.config['model_type']} {case.config['hidden_size']}"
        line = (
            f"{config} {to_json(replace(case, config={}))}: {guess.passes:,} {guess.step:,}, tracker {found}: {off:.1%}"
        )
        print(line)
        wrong += [line] if off > CLOSE else []
    assert not wrong


@pytest.mark.parametrize("group", ["grid", "odd", "small", "parameters"])
def test_parameters_and_those_of_an_adapter_are_as_transformers_and_peft_count_them(
    group: str, tracked: Tracked
) -> None:
    for case, found in tracked[group]:
        guess = estimated(replace(case, length=8))
        assert (guess.parameters, guess.trained) == (found.parameters, found.trained), case.config


QUANTIZED = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
source, config = sys.argv[1], json.loads(sys.argv[2])
AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16).save_pretrained(source)
double = dict(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)
for kind in (BitsAndBytesConfig(load_in_4bit=True, **double), BitsAndBytesConfig(load_in_8bit=True)):
    model = AutoModelForCausalLM.from_pretrained(
        source, quantization_config=kind, dtype=torch.bfloat16, device_map="cpu")
    held = {}
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        tensors = [parameter, getattr(parameter, "SCB", None)]
        for part in filter(None, (state, getattr(state, "state2", None))):
            tensors += [part.absmax, part.code, getattr(part, "offset", None)]
        for storage in (tensor.untyped_storage() for tensor in tensors if tensor is not None):
            held[storage.data_ptr()] = storage.nbytes()
    print(sum(held.values()))
"""


@pytest.mark.slow
def test_a_quantized_base_has_the_bytes_of_one_that_bitsandbytes_made(
    llamafactory_python: Path, tmp_path: Path
) -> None:
    config = model("Qwen/Qwen3-0.6B", 4) | {"vocab_size": 8192}
    out = inside(llamafactory_python, QUANTIZED, str(tmp_path / "model"), json.dumps(config), cwd=tmp_path)
    for bits, found in zip((4, 8), map(int, out.split()[-2:]), strict=True):
        one = Setup(shape=shape(config), lora=Lora(rank=8), rows=1, length=8, checkpointing=True, base=bits)
        guess = weights(one) - trainable(one) * one.trained
        print(f"{bits} bit: {guess:,} bytes, bitsandbytes {found:,}; {BITS[bits]:.4f} a weight")
        assert abs(guess / found - 1) < 0.002


VERL = """
import json, torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from adapters.verl.faster import ROWS, log_probs
from verl.utils.torch_functional import entropy_from_logits
own = torch.nn.functional
plain = own.log_softmax, own.softmax, torch.logsumexp
# CUDA's autocast computes these in fp32; a CPU's leaves them as they are.
own.log_softmax = lambda x, dim=-1: plain[0](x.float(), dim)
own.softmax = lambda x, dim=-1: plain[1](x.float(), dim)
torch.logsumexp = lambda x, dim: plain[2](x.float(), dim)
rows, length, vocabulary, peaks = 4, 512, 50000, []
def forward(loss):
    output = own.linear(hidden, head)  # there until the loss is
    if loss == "rows":  # not padded any more, as its engine does with the nested rows
        return log_probs(torch.cat([row for row in output.view(rows, length, vocabulary).unbind()]), ids)
    return log_probs(output, ids)
with FakeTensorMode():
    for loss in ("rows", "tokens", "entropy"):
        hidden = torch.zeros(rows * length, 64, dtype=torch.bfloat16, requires_grad=loss != "entropy")
        head, ids = torch.zeros(vocabulary, 64, dtype=torch.bfloat16), torch.zeros(rows * length, dtype=torch.long)
        tracker = MemTracker()
        tracker.track_external(hidden, head, ids)
        with tracker:
            if loss == "entropy":
                entropy_from_logits(own.linear(hidden, head))
            else:
                forward(loss).sum().backward()
        (peak,) = tracker.get_tracker_snapshot("peak").values()
        peaks.append(peak["Total"] / (rows * length * vocabulary))
print(json.dumps([ROWS, *peaks]))
"""


@pytest.mark.slow
def test_the_logits_of_verl_are_within_ten_percent_too(verl_python: Path, tmp_path: Path) -> None:
    """Bytes a token and word of the vocabulary, of log-probabilities with a backward, and of the entropy without."""
    at_once, *found = json.loads(inside(verl_python, VERL, cwd=tmp_path).splitlines()[-1])
    assert at_once == LOG_PROBS
    one = Setup(shape=shape(model("Qwen/Qwen3-0.6B")), lora=None, rows=4, length=512, checkpointing=True, loss="rows")
    guess = [max(logits(replace(one, loss=kind))) for kind in ("rows", "tokens", "entropy")]
    guess = [size / (one.tokens * one.shape.vocabulary) for size in guess]
    print(f"verl: {found}, estimated {guess}")
    assert all(abs(size / real - 1) < CLOSE for real, size in zip(found, guess, strict=True))
