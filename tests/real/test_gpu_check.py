"""`make gpu-check` where there is no GPU: the whole path, on a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]


def check(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--work", str(out / "work"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_trains_beside_the_defaults_and_goes_on_where_it_stopped(tmp_path: Path, llamafactory_python: Path) -> None:
    done = check(tmp_path, "--jobs", "sft-lora")
    assert done.returncode == 0 and "no GPU here" in done.stdout, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results.keys() == {"sft-lora/rows", "sft-lora/default", "sft-lora/packed"}
    ours, default = results["sft-lora/rows"], results["sft-lora/default"]
    assert ours["last_loss"] == default["last_loss"] < ours["first_loss"] == default["first_loss"]
    assert all(found["tokens_per_s"] > 0 for found in results.values())
    table = (tmp_path / "gpu.md").read_text()
    assert table.count("| sft-lora |") == 3 and "LLaMA-Factory's defaults" in table and "llamafactory 0.9" in table
    again = check(tmp_path, "--jobs", "sft-lora,dpo-lora", "--minutes", "0")
    assert again.returncode == 0 and "the same command goes on" in again.stdout
    assert json.loads((tmp_path / "gpu.json").read_text()) == results


@pytest.mark.slow
def test_it_trains_beside_the_defaults_of_verl(tmp_path: Path, verl_python: Path) -> None:
    done = check(tmp_path, "--jobs", "verl-sft-full")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results.keys() == {f"verl-sft-full/{way}" for way in ("rows", "default", "packed", "default-packed")}
    for way, by_default in (("rows", "default"), ("packed", "default-packed")):
        ours, default = results[f"verl-sft-full/{way}"], results[f"verl-sft-full/{by_default}"]
        for loss in ("first_loss", "last_loss"):  # verl's defaults put other rows together
            assert ours[loss] == pytest.approx(default[loss], rel=1e-5)
    assert "| verl's defaults, packed |" in (tmp_path / "gpu.md").read_text()


def test_a_job_that_there_is_not_is_said(tmp_path: Path) -> None:
    done = check(tmp_path, "--jobs", "sft-lorra")
    assert done.returncode == 2 and "no job sft-lorra; here are sft-lora, dpo-lora, verl-sft-full" in done.stdout
