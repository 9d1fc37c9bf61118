"""No model of a comparison is lost behind another of its name."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.seeds import units
from runner.cli import main
from runner.runs.rundir import Run, find
from runner.scoring.compare import entries
from runner.scoring.names import names_of
from tests.eval.test_seeds import of_seeds
from tests.runner.test_compare import scored


def test_runs_of_one_name_are_told_apart_by_their_directories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In every file of the report, and on the screen."""
    for place, shift in (("d1", -1.0), ("d2", -0.5), ("d3", -0.2)):
        scored(tmp_path / place, "lora", shift, f"tuning.rank={4 - 4 * shift:.0f}")
    chosen, report = [str(tmp_path / place / "lora") for place in ("d1", "d2", "d3", "d1")], tmp_path / "report"
    assert main(["compare", *chosen, "--output", str(report)]) == 0
    said, names = capsys.readouterr().out, ["base", "d1/lora", "d2/lora", "d3/lora"]
    assert list(json.loads((report / "evaluation_results.json").read_text())) == names
    found = json.loads((report / "report.json").read_text())
    assert list(found["models"]) == names and [one["other"] for one in found["comparisons"]] == names[1:]
    rows = csv.DictReader((report / "report.csv").read_text().splitlines())
    assert list(dict.fromkeys(row["model"] for row in rows)) == names
    header = next(line for line in (report / "evaluation_report.md").read_text().splitlines() if "d3/lora | n" in line)
    assert header == "| metric | base | d1/lora | d2/lora | d3/lora | n |"
    assert all(f"{name} against base" in said for name in names[1:])


def test_a_run_that_is_named_twice_is_one(tmp_path: Path) -> None:
    run = scored(tmp_path, "a", -1.0)
    assert [entry.name for entry in entries([run, find(str(run.path / ".." / "a"), tmp_path)])] == ["base", "a"]


def test_a_run_named_base_is_not_lost_behind_the_base_model(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name, shift in (("base", -1.0), ("other", -0.5)):
        scored(runs, name, shift, f"tuning.rank={8 + 4 * shift:.0f}")
    assert main(["compare", "--runs-dir", str(runs)]) == 0
    found = json.loads((runs / "report.json").read_text())
    assert list(found["models"]) == ["base", "runs/base", "other"]
    assert [(one["first"], one["other"]) for one in found["comparisons"]] == [("base", "runs/base"), ("base", "other")]


def test_the_baseline_base_is_the_base_model_whatever_runs_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, shift in (("base", -1.0), ("other", -0.5)):
        scored(tmp_path, name, shift, f"tuning.rank={8 + 4 * shift:.0f}")
    asked = ["--runs-dir", str(tmp_path), "--metrics", "perplexity"]
    assert main(["gate", "other", "--baseline", "base", *asked]) == 0, "better than the base model"
    assert f"--baseline base is the base model of other, not the run {tmp_path / 'base'}" in capsys.readouterr().err
    assert main(["gate", "other", "--baseline", str(tmp_path / "base"), *asked]) == 1, "worse than the run"
    assert "not the run" not in capsys.readouterr().err


def test_results_of_two_runs_are_not_written_into_one_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [scored(tmp_path / place, "lora", -1.0).path for place in ("d1", "d2")]
    assert main(["eval", *map(str, chosen), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"the results of {chosen[0]} and {chosen[1]} would both be written to {tmp_path / 'out' / 'lora'}" in said
    assert not (tmp_path / "out").exists()


PATHS = st.lists(st.lists(st.sampled_from(["a", "b", "base", "base of a"]), min_size=1, max_size=4), max_size=6)


@given(PATHS)
def test_names_are_of_one_run_each_and_of_no_base_model(paths: list[list[str]]) -> None:
    chosen = [Run(Path("/runs", *parts)) for parts in paths]
    found = names_of(chosen)
    assert len(set(found.values())) == len(found) == len({run.path for run in chosen})
    assert not any(name == "base" or name.startswith("base of ") for name in found.values())
    for path, name in found.items():
        alone = [other for other in found if other.name == path.name] == [path]
        assert str(path).endswith(name) and (name == path.name or not alone or path.name.startswith("base"))


def test_groups_of_other_names_are_told_apart() -> None:
    """One group is of `a` and `b`, another of the seeds of `a`."""
    first, second = (of_seeds(name, 0.0, [0.1, 0.2]) for name in ("x", "a"))
    first = [replace(entry, name=name) for entry, name in zip(first, ("a", "b"), strict=True)]
    assert [group.name for group in units([*first, *second])] == ["a + b (seeds 1, 2)", "a (seeds 1, 2)"]
