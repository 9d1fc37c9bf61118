"""Run directories: names, states, manifests."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recipes import UserError, load
from runner.cli import main
from runner.runs import rundir as rundir
from runner.runs.claim import claim
from runner.runs.rundir import Run


def make(tmp_path: Path, name: str | None = None, recipe: str = "quickstart") -> Run:
    return rundir.create(load(recipe), tmp_path / "runs", name)


def test_a_second_run_of_a_name_gets_a_number(tmp_path: Path) -> None:
    assert [make(tmp_path).name for _ in range(3)] == ["quickstart", "quickstart-2", "quickstart-3"]


def test_runs_that_start_at_once_get_different_directories(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: make(tmp_path).name, range(16)))
    assert len(set(names)) == 16


def test_a_name_that_is_given_and_taken_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "mine")
    with pytest.raises(UserError, match="is there already"):
        make(tmp_path, "mine")


def test_the_recipe_is_kept_byte_for_byte(tmp_path: Path) -> None:
    loaded = load("quickstart")
    assert (make(tmp_path).path / "recipe.yaml").read_bytes() == loaded.source


def test_a_running_state_that_nobody_works_on_is_crashed(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.update(state="running")
    assert run.state() == "crashed"
    with claim(run.path):
        assert run.state() == "running"
    assert run.state() == "crashed"


DAMAGES = {
    "empty": "",
    "torn": '{"name": "x", "sta',
    "a list": "[]",
    "no state": "{}",
    "a number": "7",
    "not text": '{"name": 3}',
    "deep": "[" * 100_000,
    "another state": None,
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_run_is_named_and_the_others_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    whole, damaged = make(tmp_path), make(tmp_path)
    text = DAMAGES[kind]
    manifest = json.loads((damaged.path / "run.json").read_text())
    (damaged.path / "run.json").write_text(json.dumps(manifest | {"state": "??"}) if text is None else text)
    assert main(["runs", "--runs-dir", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr()
    assert whole.name in said.out and damaged.name not in said.out
    assert said.err.startswith(f"left out: {damaged.path}/run.json: damaged") and said.err.count("\n") == 1
    for verb in ("logs", "resume", "eval", "merge"):
        assert main([verb, damaged.name, "--runs-dir", str(tmp_path / "runs")]) == 2
        assert "damaged" in capsys.readouterr().err or verb == "logs"


def test_a_directory_of_runs_that_may_not_be_read_is_not_one_without_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    assert main(["runs", "--runs-dir", str(tmp_path)]) == 2
    assert f"{tmp_path}: Permission denied" in capsys.readouterr().err


def test_runs_are_found_by_name_or_path(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert rundir.find("quickstart", tmp_path / "runs") == run
    assert rundir.find(str(run.path), Path("elsewhere")) == run
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        rundir.find("quikstart", tmp_path / "runs")


def test_a_manifest_holds_no_variable_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    run = make(tmp_path)
    assert all("hf_verysecret" not in f.read_text() for f in run.path.rglob("*") if f.is_file())


def test_a_torn_last_metric_is_left_out(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.metrics.write_text(json.dumps({"step": 1, "loss": 2.0}) + '\n{"step": 2, "lo')
    assert run.steps() == [{"step": 1, "loss": 2.0}]
