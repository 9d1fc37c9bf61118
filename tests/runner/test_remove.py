"""`recipe runs RUN`, `--failed` and `recipe rm`: what is shown is what is there, and only what was named is removed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import load
from runner.cli import main
from runner.runs import rundir
from runner.runs.claim import claim
from runner.runs.remove import PART
from runner.runs.rundir import Run


def make(runs: Path, name: str, steps: tuple[int, ...] = (2, 4)) -> Run:
    """A run of LLaMA-Factory with whole checkpoints, a torn one, and files of known sizes."""
    run = rundir.create(load("quickstart"), runs, name)
    for step in steps:
        checkpoint(run, step)
    (run.path / "checkpoints/checkpoint-99").mkdir()  # torn: the last file is not there
    run.metrics.write_text("".join(json.dumps({"step": n, "loss": 3 / n}) + "\n" for n in range(1, 6)))
    return run


def checkpoint(run: Run, step: int) -> None:
    directory = run.path / f"checkpoints/checkpoint-{step}"
    directory.mkdir(parents=True)
    (directory / "weights").write_bytes(b"x" * 1_000 * step)
    (directory / "trainer_state.json").write_text("{}")


def call(runs: Path, *arguments: str) -> int:
    return main([*arguments, "--runs-dir", str(runs)])


def score(run: Run, step: int, value: float) -> None:
    from eval.statistics import mean
    from recipes.typed import to_json

    directory = run.path / f"eval/eval_step_{step}"
    directory.mkdir(parents=True)
    measure = to_json(mean([value] * 5, failures=0, seed=1, implementation="test"))
    provenance = {
        "name": "tuned", "model": {"path": "m", "base": None, "hash": "", "tokenizer": "", "template": ""},
        "engine": {}, "seed": 1, "suites": {}, "versions": {}, "run": {},
    }  # fmt: skip
    content = {"metrics": {"perplexity": measure}, "provenance": provenance}
    (directory / "results.json").write_text(json.dumps(content))


def test_a_run_is_shown_with_its_whole_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make(tmp_path, "one")
    score(run, 2, 7.0)
    assert call(tmp_path, "runs", "one", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(c["step"], c["scored"]) for c in found["checkpoints"]] == [(4, False), (2, True)]
    for one in found["checkpoints"]:
        taken = sum(file.stat().st_size for file in Path(one["path"]).rglob("*"))
        assert one["size"] == taken >= 1_000 * one["step"]
    assert (found["state"], found["steps"], found["loss"]) == ("crashed", 5, 0.6)
    assert call(tmp_path, "runs", "one") == 0
    shown = capsys.readouterr().out
    assert "step 2" in shown and "step 4" in shown and "step 99" not in shown and "one: crashed" in shown


def test_a_run_that_is_not_there_or_damaged_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make(tmp_path, "one")
    assert call(tmp_path, "runs", "ones") == 2 and "did you mean 'one'" in capsys.readouterr().err
    assert call(tmp_path, "runs", "one", "--failed") == 2
    manifest = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(manifest | {"backend": "verll"}))
    assert call(tmp_path, "runs", "one") == 2 and "did you mean 'verl'" in capsys.readouterr().err
    assert call(tmp_path, "runs", "--failed") == 0 and "?" in capsys.readouterr().out
    (run.path / "run.json").write_text("{")
    assert call(tmp_path, "runs", "one") == 2 and "damaged" in capsys.readouterr().err
    assert call(tmp_path, "rm", "one", "--yes") == 0 and not run.path.exists()


def test_failed_lists_the_stopped_ones_with_their_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed, crashed, good = (make(tmp_path, name) for name in ("failed", "crashed", "good"))
    text = "failed: llamafactory ended with exit code 1\nprobable cause: the GPU is out of memory\nlog: x.log"
    failed.update(state="failed", reason=text)
    crashed.update(state="running")
    (crashed.path / "logs/attempt-1.log").write_text("step 3\nBus error (core dumped)\n\n")
    good.update(state="succeeded")
    assert call(tmp_path, "runs", "--failed") == 0
    shown = capsys.readouterr().out
    assert "good" not in shown and "Bus error (core dumped)" in shown
    assert "llamafactory ended with exit code 1 (probable cause: the GPU is out of memory)" in shown
    assert call(tmp_path, "runs", "--failed", "--json") == 0
    assert {json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()} == {"failed", "crashed"}


def test_only_what_was_named_is_removed_and_its_size_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    before = sorted(two.path.rglob("*"))
    assert call(tmp_path, "rm", "one") == 2 and one.path.is_dir()  # stdin is no terminal here
    assert "--yes" in capsys.readouterr().err
    assert call(tmp_path, "rm", "one", "three", "--yes") == 2 and one.path.is_dir()
    assert call(tmp_path, "rm", "one", "one", "--yes") == 0
    assert "freed" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["two"] and sorted(two.path.rglob("*")) == before


def test_checkpoints_alone_leave_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make(tmp_path, "one")
    run.model.mkdir()
    (run.model / "weights").write_text("w")
    (run.path / "aside-1/checkpoints/checkpoint-8").mkdir(parents=True)
    kept = {path for path in run.path.rglob("*") if "checkpoint-" not in str(path)}
    (run.path / "checkpoints/trainer_state.json").touch()  # of the trainer, and no checkpoint
    assert call(tmp_path, "rm", "one", "--checkpoints", "--yes") == 0
    assert {path for path in run.path.rglob("*") if path.name not in (".lock", ".heartbeat")} == kept
    assert "4 checkpoints, 6 kB" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["", "eval"])
def test_a_run_that_is_used_is_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    with claim(one.path / part):
        assert call(tmp_path, "rm", "two", "one", "--yes") == 2
    assert one.path.is_dir() and two.path.is_dir()
    assert ("running" if not part else "evaluated") in capsys.readouterr().err


def test_a_run_whose_model_another_stands_on_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    two.update(model=str(one.model))
    assert call(tmp_path, "rm", "one", "--yes") == 2 and "two stands on its files" in capsys.readouterr().err
    assert call(tmp_path, "rm", "one", "two", "--yes") == 0 and list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    elsewhere = make(outside, "far")
    run = make(runs, "one")
    (runs / "link").symlink_to(elsewhere.path)
    (runs / "folder").symlink_to(outside)
    for name in ("link", str(runs / "link"), str(runs / "folder/far")):
        assert call(runs, "rm", name, "--yes") == 2, name
        assert "link" in capsys.readouterr().err
    (run.path / "checkpoints/checkpoint-6").symlink_to(elsewhere.path / "checkpoints/checkpoint-4")
    (run.path / "data/rows").symlink_to(elsewhere.path)
    before = sorted(elsewhere.path.rglob("*"))
    assert call(runs, "rm", "one", "--checkpoints", "--yes") == 0
    (run.path / "checkpoints").rmdir()
    (run.path / "checkpoints").symlink_to(elsewhere.path / "checkpoints")
    assert call(runs, "rm", "one", "--checkpoints", "--yes") == 2
    assert call(runs, "rm", "one", "--yes") == 0 and not run.path.exists()
    assert sorted(elsewhere.path.rglob("*")) == before


def test_what_a_killed_removal_left_goes_with_the_next(tmp_path: Path) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    (tmp_path / f"{PART}x").mkdir()
    one.path.rename(tmp_path / f"{PART}x/run")
    assert [run.name for run in rundir.runs(tmp_path)] == ["two"]
    assert call(tmp_path, "rm", two.name, "--yes") == 0 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer,left", [("y\n", False), ("n\n", True), ("\n", True)])
def test_a_person_at_a_terminal_is_asked(tmp_path: Path, answer: str, left: bool) -> None:
    run = make(tmp_path, "one")
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli", "rm", "one", "--runs-dir", str(tmp_path)],
        stdin=theirs, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert run.path.exists() == left and done.returncode == (2 if left else 0)
    assert "[y/N]" in done.stderr
