"""What a received run or a model wrote is shown on a terminal, never done: an escape in every text of theirs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.report.results import read_results
from runner.cli import main
from runner.runs.rundir import Run, find
from runner.scoring.chat import Conversation, Talk
from runner.training.reward import Tried, text
from runner.verbs.chat import _ask
from tests.runner.test_compare import scored

EVIL = "\x1b]52;c;QUFB\x07\x9b2J\u202e"
DONE = set("\x1b\x07\x9b\u202e")


def evil(value: Any) -> Any:
    """The same JSON with an escape behind each text, and the ids as they are: samples are paired by them."""
    if isinstance(value, dict):
        return {key: inner if key == "id" else evil(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [evil(inner) for inner in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value


def received(runs: Path, name: str, shift: float, rank: int) -> Run:
    """A run whose name, reason, results and records hold escapes, a measure of its own and a sample without answer."""
    run = scored(runs, name, shift, f"tuning.rank={rank}")
    for directory in (run.path / "eval", run.path / "eval" / "base"):
        for file in directory.glob("*.jsonl"):
            rows = [evil(json.loads(line)) for line in file.read_text().splitlines()]
            for n, row in enumerate(rows):
                row[f"own.{EVIL}"] = n * shift if directory.name == "eval" else float(n)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = evil(json.loads((directory / "results.json").read_text()))
        found["metrics"][f"reference.{EVIL}"] = {**found["metrics"]["reference.rougeL"], "failures": 3}
        found["provenance"]["suites"]["perplexity"]["data"]["used"] += name
        for suite in found["provenance"]["suites"].values():
            suite["records"] = ""  # as in results from before it was kept
        (directory / "results.json").write_text(json.dumps(found))
    run.update(reason=EVIL, model=f"m{EVIL}", recipe=f"r{EVIL}", overrides=(f"name={EVIL}",))
    return run


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert not DONE & set(said.out + said.err), "an escape reached the terminal"
    return said.out + said.err


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    received(tmp_path, f"a{EVIL}", 1.0, 8)
    received(tmp_path, f"b{EVIL}", -0.5, 4)
    received(tmp_path, "stopped", -0.5, 2).update(state="failed")
    return tmp_path


A, B = f"a{EVIL}", f"b{EVIL}"


@pytest.mark.parametrize(
    "command",
    [
        ["compare", A, B, "--allow-unlike"],
        ["compare", A, B],
        ["compare", "--allow-unlike", "--alone"],
        ["gate", A, "--baseline", B],
        ["gate", A, "--baseline", "base"],
        ["gate", A, "--baseline", "base", "--metrics", f"reference.{EVIL}"],
        ["gate", B, "--baseline", "base", "--metrics", "reference"],
        ["gate", A, "--baseline", "base", "--metrics", f"other{EVIL}"],
        ["gate", A, "--baseline", f"none{EVIL}"],
        ["runs"],
        ["runs", "--failed"],
        ["runs", A],
        ["runs", "stopped"],
        ["eval", f"none{EVIL}"],
        ["eval", "stopped"],
    ],
)
def test_a_verb_shows_the_escapes_of_a_received_run(
    runs: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    main([*command, "--runs-dir", str(runs)])
    assert "\\x1b]52" in printed(capsys) or command[-1] == "stopped"


def test_so_do_the_results_of_an_evaluation(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measuring itself is left out: its results are those of the received run."""
    read = lambda run, how, say: {f"tuned{EVIL}": read_results(run.path / "eval")}  # noqa: E731
    monkeypatch.setattr("runner.scoring.runs.score_run", read)
    assert main(["eval", A, B, "--runs-dir", str(runs)]) == 0
    assert "\\x1b]52" in printed(capsys)


def test_so_does_a_conversation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Replies(Talk):
        def reply(self, conversation: Conversation, piece: Callable[[str], None]) -> str:
            piece(f"said {EVIL}")
            return "length"

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _ask(Replies({}), [Conversation(A), Conversation(B)], "What is a bond?")
    assert printed(capsys).count("said \\x1b]52") == 2


def test_so_do_rewards_of_replies() -> None:
    assert not DONE & set(text([Tried(kind=EVIL, reply=EVIL, answer=EVIL, parts={EVIL: 1.0}, reward=1.0)]))


def test_the_run_of_these_tests_is_one(runs: Path) -> None:
    assert find(A, runs).read().reason == EVIL
