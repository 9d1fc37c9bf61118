"""What is shown of runs, logs, results and the machine."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from recipes import UserError, load
from recipes.typed import write_typed
from runner.machine import doctor
from runner.machine.environments import NAMES
from runner.runs import logs, rundir, show
from runner.runs.claim import claim
from runner.runs.rundir import Run
from runner.scoring.models import results_table
from tests.eval import made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = rundir.create(load("quickstart"), tmp_path / "runs", None)
    made.metrics.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5}\n')
    return made


def test_a_run_in_the_table(run: Run) -> None:
    (run.path / "eval").mkdir()
    write_typed(run.path / "eval/results.json", made.perplexity(4.5))
    header, row = show.runs_table([run]).splitlines()
    assert header.split()[:3] == ["run", "state", "backend"]
    assert row.split()[:8] == ["quickstart", "crashed", "llamafactory", "sft", "lora", "2", "1.5000", "4.500"]


def test_wide_characters_keep_the_columns_aligned() -> None:
    assert show.table([("a", "b"), ("中文", "x"), ("abcd", "y")]) == "a     b\n中文  x\nabcd  y"


def test_results_show_intervals_and_n() -> None:
    tuned = made.results({"perplexity": made.measure(3.25, ci95=(3.0, 3.5), n=26)})
    table = results_table({"base": made.results({}), "tuned": tuned})
    assert table.splitlines()[1].split() == ["perplexity", "↓", "-", "3.250", "[3,", "3.500]", "26"]


def test_a_log_is_followed_until_the_run_ends(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.log(1).write_text("one\ntwo\n")

    def finish() -> None:
        time.sleep(0.5)
        with run.log(1).open("a") as stream:
            stream.write("three\n")
        run.update(state="succeeded")

    thread = threading.Thread(target=finish)
    with claim(run.path):
        thread.start()
        logs.show(run, follow=True, lines=1)
        thread.join()
    assert capsys.readouterr().out == "two\nthree\n"


def test_an_empty_log_hides_no_other(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.log(1).write_text("one\n")
    later = run.log(1).with_name("export-2.log")
    later.touch()
    os.utime(later, (time.time() + 9, time.time() + 9))
    run.update(state="succeeded")
    logs.show(run, follow=False, lines=None)
    assert capsys.readouterr().out == "one\n"


def test_a_run_without_a_log(run: Run) -> None:
    with pytest.raises(UserError, match="has no log yet"):
        logs.show(run, follow=False, lines=None)


def test_the_doctor_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = {finding.subject: finding for finding in doctor.findings()}
    assert found.keys() == {"python", "disk", "uv", "registry", "GPUs", *NAMES, "bundled model", "hub"}
    assert not found["llamafactory"].good and "recipe setup llamafactory" in found["llamafactory"].advice
    assert not found["hub"].good and "HF_HUB_OFFLINE=1" in found["hub"].advice
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert {f.subject: f for f in doctor.findings()}["hub"].good


def test_the_doctor_asks_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_GB", 10**9)
    disk = next(f for f in doctor.findings() if f.subject == "disk")
    assert not disk.good and "RECIPE_CACHE" in disk.advice
