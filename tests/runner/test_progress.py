"""Progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import io
import sys

import pytest

from runner.training import progress
from runner.training.progress import Progress, duration
from runner.verbs.options import say


@pytest.mark.parametrize("seconds,text", [(0, "0:00"), (75.9, "1:15"), (3700, "1:01:40")])
def test_a_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def feed(shown: Progress) -> None:
    shown.begin(4)
    for step in range(1, 5):
        values = {"step": step, "loss": 2.0 / step, "learning_rate": 1e-4, "rewards/margins": 0.5}
        shown.step({**values, "step_time_s": 2.0, "tokens": 100})
    shown.step({"step": 4, "eval_loss": 1.25})
    shown.close()


def test_plain_lines_tell_the_step_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0)
    feed(Progress(say))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 1/4  loss 2.0000  lr 1.00e-04  margin 0.500  50 tok/s  0:06 left"
    assert lines[-1] == "step 4: validation loss 1.2500"
    assert len(lines) == 5


def test_a_step_whose_share_of_the_peak_is_known_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(say).step({"step": 1, "loss": 1.0, "mfu": 0.413})
    assert "loss 1.0000  MFU 41%" in capsys.readouterr().err


def test_tokens_with_loss_are_told_beside_all(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"tokens_per_s": 200.0, "supervised_tokens_per_s": 50.0}
    Progress(say).step({"step": 1, "loss": 1.0, "step_time_s": 0.5, "tokens": 100, **rates})
    assert "loss 1.0000  200 tok/s (50 with loss)" in capsys.readouterr().err


def test_a_log_is_not_flooded(capsys: pytest.CaptureFixture[str]) -> None:
    """Between two lines some seconds pass; the last step is always shown."""
    shown = Progress(say)
    shown.begin(1000)
    for step in range(1, 1001):
        shown.step({"step": step, "loss": 1.0})
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    feed(Progress(say))
    assert "4/4" in screen.getvalue() and "loss 0.5000" in screen.getvalue()
    assert "validation loss 1.2500" in screen.getvalue()
