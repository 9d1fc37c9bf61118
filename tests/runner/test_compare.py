"""Comparing runs: from run directories as an evaluation leaves them, to tables and one report."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eval.report.results import Entry
from recipes import load
from recipes.typed import write_typed
from runner.cli import main
from runner.runs import rundir as rundir
from runner.runs.rundir import Run
from runner.scoring.compare import entries, report_over_all, trained_parameters
from tests.eval.test_report import _entry


def leave(entry: Entry, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_typed(directory / "results.json", entry.results)
    for suite, records in entry.records.items():
        (directory / f"{suite}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def scored(runs: Path, name: str, shift: float, *overrides: str) -> Run:
    """A finished run with results, and its base's."""
    run = rundir.create(load("finance_lora", overrides), runs, name)
    run.update(state="succeeded", training_time_s=12.5)
    run.metrics.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.0, "memory_gb": 1.5}\n')
    leave(_entry("tuned", shift=shift), run.path / "eval")
    leave(_entry("base"), run.path / "eval" / "base")
    return run


def test_runs_of_one_base_share_it(tmp_path: Path) -> None:
    chosen = [scored(tmp_path, "a", -1.0), scored(tmp_path, "b", -0.5, "tuning.rank=4")]
    assert [entry.name for entry in entries(chosen)] == ["base", "a", "b"]
    assert [entry.name for entry in entries(chosen, base=False)] == ["a", "b"]
    leave(_entry("base", n=20), chosen[1].path / "eval" / "base")
    assert [entry.name for entry in entries(chosen)] == ["base", "a", "base of b", "b"]


def test_compare_prints_tests_costs_and_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, shift, rank in (("a", -1.0, 8), ("b", -0.5, 4)):
        scored(tmp_path, name, shift, f"tuning.rank={rank}")
    assert main(["compare", "--runs-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    first, second, third = said.out.splitlines()[:3]
    assert first.startswith("By perplexity, a (") and "ranks first of 3 models, before b (" in first
    assert second.startswith("a is better than base: perplexity ") and third.startswith("b is better than base: ")
    assert second.endswith(", for 12 s of training and 1.5 GB of memory.")
    assert "a against base" in said.out and "b against base" in said.out and "tuning.rank" in said.out
    assert "better" in said.out and "12 s" in said.out and "1.50 GB" in said.out
    written = json.loads((tmp_path / "evaluation_results.json").read_text())
    assert list(written) == ["base", "a", "b"]
    assert written["a"]["initial_train_loss"] == 2.5 and written["a"]["training_time_seconds"] == 12.5
    assert (tmp_path / "report.html").is_file() and str(tmp_path / "report.html") in said.err


def test_a_terminal_without_arrows_gets_their_codes(tmp_path: Path) -> None:
    scored(tmp_path, "a", -1.0)
    command = [sys.executable, "-m", "runner.cli", "compare", "--runs-dir", str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a is better than base: perplexity ") and "perplexity \\u2193" in done.stdout


def test_a_report_over_some_runs_is_not_written_over_the_one_over_all(tmp_path: Path) -> None:
    for name, shift in (("a", -1.0), ("b", -0.5), ("c", -0.2)):
        scored(tmp_path, name, shift)
    assert main(["compare", "--runs-dir", str(tmp_path)]) == 0
    assert main(["compare", "a", "c", "--runs-dir", str(tmp_path)]) == 0
    report_over_all([rundir.find("a", tmp_path)], tmp_path, print)
    results = "evaluation_results.json"
    assert list(json.loads((tmp_path / results).read_text())) == ["base", "a", "b", "c"]
    assert list(json.loads((tmp_path / "compare" / "a_vs_c" / results).read_text())) == ["base", "a", "c"]


@pytest.mark.parametrize("letter", ["x", "长"])
def test_the_report_over_runs_of_long_names_has_a_directory(tmp_path: Path, letter: str) -> None:
    """Of others with the same beginning, another."""
    names = [letter * (81 // len(letter.encode())) + end for end in "abcde"]
    for name, shift in zip(names, (-1.0, -0.5, -0.2, 0.1, 0.2), strict=True):
        scored(tmp_path, name, shift)
    for chosen in (names[:4], [*names[:3], names[4]], names[:2]):
        assert main(["compare", *chosen, "--alone", "--runs-dir", str(tmp_path)]) == 0
    written = sorted(path.parent for path in tmp_path.glob("compare/*/report.html"))
    assert len(written) == 3 and tmp_path / "compare" / f"{names[0]}_vs_{names[1]}" in written
    assert all(len(os.fsencode(path.name)) <= 255 for path in written)


def test_runs_that_were_measured_otherwise_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored(tmp_path, "a", -1.0)
    other = scored(tmp_path, "b", -0.5)
    leave(_entry("tuned", n=20), other.path / "eval")
    asked = ["compare", "a", "b", "--no-base", "--runs-dir", str(tmp_path)]
    assert main(asked) == 2
    assert "a and b were not measured alike" in capsys.readouterr().err
    assert main([*asked, "--allow-unlike"]) == 0
    assert "Not measured alike" in capsys.readouterr().out


def only(entry: Entry, metrics: tuple[str, ...]) -> Entry:
    kept = {name: measure for name, measure in entry.metrics.items() if name in metrics}
    return replace(entry, results=replace(entry.results, metrics=kept))


def test_runs_that_share_no_metric_stand_each_against_its_own_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An SFT run with a perplexity, and a DPO run without one."""
    for name, metrics in (("sft", ("perplexity", "test_loss")), ("dpo", ("generation.tokens",))):
        run = scored(tmp_path, name, -1.0)
        leave(only(_entry("tuned", shift=-1.0), metrics), run.path / "eval")
        base = only(_entry("base"), metrics)
        about = replace(base.provenance, run={"tuning": "none"})
        leave(replace(base, results=replace(base.results, provenance=about)), run.path / "eval" / "base")
    assert main(["compare", "sft", "dpo", "--runs-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "sft against base" in said and "dpo against base of dpo" in said and "base of dpo against" not in said
    assert main(["compare", "sft", "dpo", "--no-base", "--runs-dir", str(tmp_path)]) == 2
    assert "no metric in common" in capsys.readouterr().err


def test_one_model_is_none_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = scored(tmp_path, "a", -1.0)
    assert main(["compare", "--no-base", "--runs-dir", str(tmp_path)]) == 2
    assert "two are needed" in capsys.readouterr().err
    (run.path / "eval/results.json").unlink()
    assert main(["compare", "a", "--runs-dir", str(tmp_path)]) == 2
    assert "run `recipe eval` first" in capsys.readouterr().err


def test_trained_parameters_are_those_in_the_weights(tmp_path: Path) -> None:
    """Of an adapter beside other weights: its own."""
    for name, shape in (("adapter_model", [4, 8]), ("model", [100, 100])):
        header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
        (tmp_path / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert trained_parameters(tmp_path) == 32
    (tmp_path / "adapter_model.safetensors").unlink()
    assert trained_parameters(tmp_path) == 10_000
