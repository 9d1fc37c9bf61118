"""MFU: the driver's word on the cards, and the share of their peak that a token a second is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters import backend
from adapters.contract import Topology
from recipes import load
from runner.data.spec import Accounting
from runner.fit.gpus import DRIVER, GPUS
from runner.fit.utilization import mfu_of_a_token
from runner.machine.cards import Card, cards
from runner.training.metrics import Rates, Splicer

ROWS = Accounting(
    rows_in=10, trained=10, truncated_of_trained=0, validation=0, truncated_of_validation=0, dropped={},
    longest_dropped=0, tokens=1000, supervised_tokens=500, longest=200, max_length=2048, sources={}, files={},
    left_out={}, unused_columns={}, sha256={}, notes={}, model_notes=(), end_tokens=None, template_sha256="",
)  # fmt: skip
H100 = Card(name="NVIDIA H100 80GB HBM3", memory=85_520_809_984)
TWO = Topology(gpus=2, processes=2, devices=("0", "1"))
# Of Qwen3-0.6B: 28 layers of attention (1024 x 2048 twice, 1024 x 1024 twice) and MLP (three of 1024 x 3072), the head.
MULTIPLIED = 28 * (2 * 1024 * 2048 + 2 * 1024 * 1024 + 3 * 1024 * 3072) + 151_936 * 1024
ATTENTION = 28 * 2 * 2048 * 50 * 2  # scores and what they sum up, of 16 heads of 128, over 50 tokens before on average


def share(*overrides: str, found: list[Card], topology: Topology = TWO) -> float | None:
    recipe = load("quickstart", ["model.path=Qwen/Qwen3-0.6B", *overrides]).recipe
    return mfu_of_a_token(recipe, topology, ROWS, found)


@pytest.mark.parametrize("tuning,passes", [("lora", 2), ("full", 3)])
def test_it_is_what_the_model_needs_over_the_peak_of_all_cards(tuning: str, passes: int) -> None:
    """A backward is a forward for the activations, and one for the weights that are trained; checkpointing is none."""
    needed = passes * (2 * MULTIPLIED + ATTENTION)
    for again in ("true", "false"):
        given = (f"tuning={{type: {tuning}}}", f"training.gradient_checkpointing={again}")
        assert share(*given, found=[H100, H100]) == pytest.approx(needed / (2 * 989e12))


@pytest.mark.parametrize(
    "overrides,found",
    [
        ((), []),
        ((), [H100]),
        ((), [H100, replace(H100, name="NVIDIA H100 PCIe")]),
        ((), [H100, replace(H100, name="NVIDIA L4")]),
        (("training.precision=fp32",), [H100, H100]),
        (("model.path=a/b",), [H100, H100]),
        (("tuning={type: freeze}",), [H100, H100]),
    ],
)
def test_it_is_not_told_where_peak_or_model_are_not_known(overrides: tuple[str, ...], found: list[Card]) -> None:
    assert share(*overrides, found=found) is None


def test_every_name_of_the_driver_is_a_card_of_the_table() -> None:
    assert set(DRIVER.values()) == set(GPUS)


SMI = """#!/bin/sh
echo "0, GPU-aa11, NVIDIA H100 80GB HBM3, 81559"
echo "1, GPU-bb22, NVIDIA L4, 23034"
echo "2, GPU-cc33, NVIDIA L4, [N/A]"
"""


def test_the_driver_is_asked_for_the_cards_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert cards(["0"]) == [replace(H100, memory=81559 * 2**20)]
    assert [card.name for card in cards(["GPU-bb22", "0"])] == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert cards(["2", "7"]) == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert cards(["0"]) == []


def test_each_line_of_metrics_has_it(tmp_path: Path) -> None:
    raw = '{"step": 1, "loss": 2.0, "tokens": 100, "step_time_s": 0.5}\n{"step": 1, "eval_loss": 2.0}\n'
    (tmp_path / "raw.jsonl").write_text(raw)
    seen: list[dict[str, float]] = []
    rates = Rates(mfu=1e-3, supervised=0.25)
    Splicer(tmp_path / "raw.jsonl", tmp_path / "m.jsonl", backend("llamafactory"), seen.append, rates=rates)()
    told = ("tokens_per_s", "supervised_tokens_per_s", "mfu")
    assert [tuple(map(line.get, told)) for line in seen] == [(200.0, 50.0, 0.2), (None, None, None)]
