"""What our verl trainer computes in place of verl: log-probabilities in fp32, and kernels that are not passed over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import inside

pytestmark = pytest.mark.real

# Beside float64's log-softmax, over numbers of tokens around the 256 that are in fp32 at once, in every float.
LOG_PROBS = """
import json, random, torch
from adapters.verl.faster import log_probs
chance, found = random.Random(0), {}
torch.manual_seed(0)
for kind in (torch.float32, torch.bfloat16, torch.float16):
    for shape in [(1,), (255,), (256,), (257,), (3, 200), *[(chance.randint(1, 900),) for _ in range(4)]]:
        vocabulary = chance.choice([2, 31, 503])
        given = torch.randn(*shape, vocabulary).mul(chance.choice([0.1, 5, 40])).to(kind)
        labels, weights = torch.randint(vocabulary, shape), torch.randn(shape)
        ours, exact = given.clone().requires_grad_(), given.double().requires_grad_()
        logits, inplace = ours * 1, chance.random() < 0.5  # in place, its gradient takes the place of this
        value = log_probs(logits, labels, inplace)
        (value * weights).sum().backward()
        right = exact.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        (right * weights).sum().backward()
        assert inplace or torch.equal(logits, given)
        assert value.dtype == torch.float32 and value.shape == labels.shape
        pairs = ((value, right), (ours.grad, exact.grad))
        apart = [float(((a - b).norm() / (b.norm() + 1e-3)).detach()) for a, b in pairs]
        found[str(kind)] = [max(pair) for pair in zip(apart, found.get(str(kind), apart))]
print(json.dumps(found))
"""


def test_log_probabilities_are_those_of_float64(llamafactory_python: Path, tmp_path: Path) -> None:
    found = json.loads(inside(llamafactory_python, LOG_PROBS, cwd=tmp_path).splitlines()[-1])
    print(found)
    for kind, (value, gradient) in found.items():
        rounded = 1e-5 if kind == "torch.float32" else 4e-3
        assert value < 1e-5 and gradient < rounded, f"{kind}: {value}, {gradient}"


NO_KERNELS = """
import sys
from types import SimpleNamespace
from adapters.verl.faster import check_kernels
for needed in (False, True):
    model = SimpleNamespace(use_liger=True, path="", trust_remote_code=False)
    try:
        check_kernels(model, needed)
        assert model.use_liger is False
    except SystemExit as error:
        print(error)
"""


def test_kernels_that_are_missing_are_an_error_where_they_were_asked_for(
    llamafactory_python: Path, tmp_path: Path
) -> None:
    said = inside(llamafactory_python, NO_KERNELS, cwd=tmp_path).splitlines()
    assert said[-2:] == [
        "kernels: none, as this environment has no liger-kernel",
        "training.kernels: liger is not possible: this environment has no liger-kernel; use none or auto",
    ]


PLACES = """
import inspect
from adapters.verl import faster
from verl.workers.engine.fsdp import transformer_impl
faster.install()
source = inspect.getsource(transformer_impl.FSDPEngineWithLMHead.prepare_model_outputs)
assert transformer_impl.logprobs_from_logits is faster.log_probs
print(source.count("logprobs_from_logits("))
"""


IN_RAY = """
from verl.workers.engine.fsdp import transformer_impl
from adapters.verl import faster
print(transformer_impl.logprobs_from_logits is faster.log_probs)
"""


@pytest.mark.slow
def test_so_do_the_processes_of_rollouts(verl_python: Path, tmp_path: Path) -> None:
    env = {"VERL_USE_EXTERNAL_MODULES": "adapters.verl.ray_process,adapters.verl.cpu", "RECIPE_RAY_JOB": "1"}
    assert inside(verl_python, IN_RAY, cwd=tmp_path, env=env).splitlines()[-1] == "True"


@pytest.mark.slow
def test_verl_asks_for_them_by_the_name_that_is_replaced(verl_python: Path, tmp_path: Path) -> None:
    assert int(inside(verl_python, PLACES, cwd=tmp_path).splitlines()[-1]) >= 2  # of padded rows, and without padding
