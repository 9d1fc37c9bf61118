"""What is said of an error of GPU memory: its moment, and the estimate of that moment beside what there was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters.contract import Topology
from recipes import load
from runner.fit.estimate import Fit, estimate
from runner.fit.exceeded import exceeded, moment_of

TRACEBACK = """INFO 12:00 loaded
Traceback (most recent call last):
  File "x.py", line 1, in earlier
    loss.backward()
ValueError: handled
Traceback (most recent call last):
  File "/e/transformers/trainer.py", line 1906, in training_step
    {frames}
{error}"""
ERROR = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 594.00 MiB. GPU 0 has a total capacity of 23.64 GiB "
    "of which 411.31 MiB is free. {others}Including non-PyTorch memory, this process has {own} GiB memory in use. "
    "Of the allocated memory 21.95 GiB is allocated by PyTorch, and 824.58 MiB is reserved by PyTorch but unallocated."
)
FORWARD = "loss = self.compute_loss(model, inputs)\n    down_proj = self.down_proj(self.act_fn(self.gate_proj(x)))"
LOGITS = "loss = self.compute_loss(model, inputs)\n    logits = self.lm_head(hidden_states[:, slice_indices, :])"
BACKWARD = "self.accelerator.backward(loss)\n    logits = self.lm_head(hidden_states)  # computed again"
STEP = 'self.optimizer.step()\n  File "/e/torch/optim/adamw.py", line 1, in step\n    torch._foreach_sqrt(x)'


@pytest.fixture(scope="module")
def fit() -> Fit:
    loaded = load("qwen3_4b_financial", ["model.path=Qwen/Qwen3-0.6B"])
    found = estimate(loaded.recipe, Topology(gpus=1, processes=1, devices=("0",)), Path())
    assert not isinstance(found, str)
    return found


def told(frames: str, fit: Fit, *, others: str = "", own: str = "23.23") -> str:
    return exceeded(TRACEBACK.format(frames=frames, error=ERROR.format(others=others, own=own)), fit, 12)


@pytest.mark.parametrize(
    "frames,moment,phases",
    [
        (FORWARD, "forward", {"forward"}),
        (LOGITS, "logits and loss", {"forward", "loss"}),
        (BACKWARD, "backward", {"loss", "backward", "first layer's backward"}),
        (STEP, "optimizer step", {"optimizer step"}),
    ],
)
def test_it_names_the_moment_and_what_was_expected_of_it(frames: str, moment: str, phases: set[str], fit: Fit) -> None:
    text = told(frames, fit)
    assert text.startswith(f"after step 12, in the {moment}: 23.6 GB of tensors and 0.6 GB more, where the estimate ")
    expected = max(fit.memory.phases[name] for name in phases)
    assert re.search(r"estimate has ([\d.]+) GB", text)[1] == f"{expected / 1e9:.1f}"  # type: ignore[index]
    largest = max(fit.memory.parts, key=lambda name: fit.memory.parts[name])
    assert f"(its peak: {fit.memory.peak / 1e9:.1f} GB; {largest} " in text and "other processes" not in text


def test_others_on_the_card_are_named(fit: Fit) -> None:
    text = told(FORWARD, fit, others="Process 41 has 16.00 GiB memory in use. ", own="7.20")
    assert text.endswith("; other processes on this GPU hold 17.2 GB")


def test_an_estimate_that_was_too_much_already_is_said(fit: Fit) -> None:
    loaded = load("qwen3_4b_financial", ["tuning={type: full}"])
    large = estimate(loaded.recipe, Topology(gpus=1, processes=1, devices=("0",)), Path())
    assert not isinstance(large, str) and large.memory.phases["optimizer step"] > 40e9
    assert told(STEP, large).endswith(
        "; the estimate itself is more than this GPU has: `recipe fit` says what would fit"
    )


@pytest.mark.parametrize(
    "text", ["", "CUDA out of memory", "Tried to allocate 2.00 GiB", "RuntimeError: CUBLAS_STATUS_ALLOC_FAILED"]
)
def test_without_sizes_nothing_is_said(text: str, fit: Fit) -> None:
    assert exceeded(text, fit, 1) == ""


def test_a_text_without_a_traceback_is_the_forward() -> None:
    assert moment_of("")[0] == "forward"
