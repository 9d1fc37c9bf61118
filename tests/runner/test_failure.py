"""What a failure says, on the terminal and in the manifest."""

from __future__ import annotations

from pathlib import Path

from runner.failure import Failure


def test_the_manifest_has_the_cause_and_the_terminal_the_last_lines_too() -> None:
    error = Failure("r: verl ended with exit code 1", cause="disk full", tail="one\ntwo", log=Path("/r/log"))
    head, foot = "failed: r: verl ended with exit code 1\n", "probable cause: disk full\nlog: /r/log"
    assert error.text() == head + foot
    assert str(error) == f"{head}  | one\n  | two\n{foot}"
