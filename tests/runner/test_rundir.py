"""Run directories: names, states, manifests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.contract import Topology
from recipes import UserError, load
from runner.cli import main
from runner.runs import rundir as rundir
from runner.runs.claim import claim
from runner.runs.rundir import Run
from runner.training import train


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


TORN = (
    "recipe.yaml",
    "recipe.resolved.yaml",
    ".run.json.0123abcd",
    "data/",
    "backend/",
    "logs/",
    "checkpoints/",
    ".lock",
)
OTHERS = (
    "thesis.txt",
    "data/rows.jsonl",
    "logs/a/b",
    "model/",
    ".git/config",
    "checkpoints/x",
    ".env",
    "recipe.yaml/x",
    "data",
)


def fill(directory: Path, places: Iterable[str], recipe: bytes = b"") -> dict[str, bytes]:
    for place in sorted(places):
        path = directory / place
        (path if place.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not place.endswith("/") and not path.is_dir():
            path.write_bytes(recipe if place == "recipe.yaml" else place.encode())
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@settings(deadline=None, max_examples=60)
@given(st.sets(st.sampled_from(TORN)), st.sets(st.sampled_from(OTHERS)), st.booleans())
def test_a_directory_that_holds_anything_else_is_no_run_that_was_begun(
    tmp_path_factory: pytest.TempPathFactory, torn: set[str], others: set[str], same: bool
) -> None:
    """A run that is to go on takes what a kill left of its first instant, and nothing of anybody else's."""
    runs, loaded = tmp_path_factory.mktemp("runs"), load("quickstart")
    if "recipe.yaml/x" in others or "data" in others:
        torn -= {"recipe.yaml", "data/"}
        others -= {"data/rows.jsonl"}
    before = fill(runs / "mine", {"./"} | torn | others, loaded.source[:40] if same else b"name: other")
    if others or ("recipe.yaml" in torn and not same):
        with pytest.raises(UserError, match=r"--name mine: .* (is there already, and is no run|is another recipe)"):
            rundir.create(loaded, runs, "mine", begun=True)
        assert fill(runs / "mine", ()) == before
    else:
        assert rundir.create(loaded, runs, "mine", begun=True).read().state == "prepared"
    with pytest.raises(UserError, match="is there already"):
        rundir.create(loaded, runs, "mine")


def test_a_mistake_in_the_rows_removes_no_directory_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise UserError("rows that cannot be used")

    monkeypatch.setattr(train, "train", wrong)
    monkeypatch.setattr(train, "ready_python", lambda *_: Path("python"))
    (tmp_path / "there").mkdir()
    for name, stays in (("there", True), ("new", False)):
        how = train.Options(runs_dir=tmp_path, name=name, begun=True, say=lambda _: None)
        with pytest.raises(UserError, match="rows that cannot"):
            train.run_recipe(load("quickstart"), Topology(), how)
        assert (tmp_path / name).exists() == stays


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
