"""Children: their output is kept without secrets, and none of them outlives the call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from recipes import UserError
from runner.failure import Failure
from runner.machine import process

LINUX = sys.platform == "linux"


def run(code: str, tmp_path: Path, **variables: str) -> tuple[int, str]:
    log = tmp_path / "log"
    env = {**os.environ, **variables}
    number = process.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, env=env, log=log, mark=str(tmp_path)
    )
    return number, log.read_text()


def test_output_and_exit_code(tmp_path: Path) -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    assert run(code, tmp_path) == (3, "out\nerr\n")


def test_secrets_of_the_environment_never_reach_the_log(tmp_path: Path) -> None:
    code = "import os; print('token', os.environ['HF_TOKEN'], os.environ['WANDB_API_KEY'], os.environ['HOME'])"
    _, log = run(code, tmp_path, HF_TOKEN="hf_verysecret", WANDB_API_KEY="0123456789", HOME="/home/x")
    assert log == "token [redacted] [redacted] /home/x\n"


def test_a_command_is_put_before_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIPE_WRAP", "env 'OWN=two words'")
    assert run("import os; print(os.environ['OWN'])", tmp_path) == (0, "two words\n")
    (tmp_path / "own").write_text('#!/bin/sh\nOWN=relative exec "$@"\n')
    (tmp_path / "own").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECIPE_WRAP", "./own")
    (tmp_path / "elsewhere").mkdir()
    assert run("import os; print(os.environ['OWN'])", tmp_path / "elsewhere") == (0, "relative\n")
    for missing in ("no-such-command -x", "'open"):
        monkeypatch.setenv("RECIPE_WRAP", missing)
        with pytest.raises(UserError, match="RECIPE_WRAP"):
            run("", tmp_path)


def test_workers_in_sessions_of_their_own_end_with_the_call(tmp_path: Path) -> None:
    """As torchrun leaves them: the parent ends, a worker in another session goes on."""
    code = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        print(child.pid)
    """
    _, log = run(code, tmp_path)
    assert not psutil.pid_exists(int(log)) or psutil.Process(int(log)).status() == psutil.STATUS_ZOMBIE
    assert process.marked(str(tmp_path)) == []


def test_a_signal_ends_the_children_and_is_told(tmp_path: Path) -> None:
    started = time.monotonic()

    def interrupt() -> None:
        if time.monotonic() - started > 0.5:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(process.Interrupted, match="SIGTERM"), process.signals_raise():
        process.run(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            cwd=tmp_path, env=os.environ, log=tmp_path / "log", mark=str(tmp_path), poll=interrupt,
        )  # fmt: skip
    assert process.marked(str(tmp_path)) == []
    assert time.monotonic() - started < 20


@pytest.fixture
def heard() -> Iterator[None]:
    """^C is heard: a shell has what it starts with `&` ignore it, and so a test run in the background."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_a_second_signal_kills_what_does_not_want_to_end(tmp_path: Path, heard: None) -> None:
    """A child that ignores SIGTERM is given its time once; who asks twice does not wait for it."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    log, started = tmp_path / "log", time.monotonic()

    def interrupt() -> None:
        if log.is_file() and "up" in log.read_text():
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(process.Interrupted, match="SIGINT"), process.signals_raise():
        process.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=os.environ, log=log, mark=str(tmp_path), poll=interrupt
        )
    assert process.marked(str(tmp_path)) == []
    assert time.monotonic() - started < process.GRACE_S / 2


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    """As SIGHUP is under nohup."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with process.signals_raise():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_signal_while_a_state_is_written_is_counted_not_raised() -> None:
    with process.signals_raise(), process.shielded():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_on_a_full_disk_blocks_nobody(tmp_path: Path) -> None:
    """More output than a pipe holds: a reader that gave up would make the child wait for ever."""
    (tmp_path / "log").symlink_to("/dev/full")
    code = "print('x' * 200_000, flush=True)"
    arguments = {"cwd": tmp_path, "env": os.environ, "log": tmp_path / "log", "mark": str(tmp_path)}
    assert process.run([sys.executable, "-c", code], **arguments) == 0  # type: ignore[arg-type]
    with pytest.raises(Failure, match="could not be written") as caught:
        process.run([sys.executable, "-c", f"{code}; raise SystemExit(3)"], **arguments)  # type: ignore[arg-type]
    assert "No space left on device" in str(caught.value)


def test_output_without_a_newline_takes_no_memory(tmp_path: Path) -> None:
    before = psutil.Process().memory_info().rss
    run("import sys\nfor _ in range(20): sys.stdout.write('x' * 1_000_000)", tmp_path)
    assert (tmp_path / "log").stat().st_size == 20_000_000
    assert psutil.Process().memory_info().rss - before < 10_000_000 + 20_000_000  # run() reads the log, 20 MB


def test_no_module_of_the_working_directory_is_imported(tmp_path: Path) -> None:
    """A run that somebody sent may hold files named like anything that a child imports."""
    for name in ("json", "yaml", "torch", "runner"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    children = "import json, subprocess, sys; sys.exit(subprocess.call([sys.executable, '-m', 'json.tool', '--help']))"
    assert run(children, tmp_path)[0] == 0


@pytest.mark.skipif(not LINUX, reason="parent-death signal is Linux's")
def test_a_child_ends_when_its_runner_is_killed_outright(tmp_path: Path) -> None:
    code = f"""
        import os, sys
        from pathlib import Path
        from runner.machine import process
        here = Path({str(tmp_path)!r})
        process.run([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"],
                    cwd=here, env=os.environ, log=here / "log", mark=str(here))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    until(lambda: (tmp_path / "log").is_file() and "up" in (tmp_path / "log").read_text())
    assert process.marked(str(tmp_path))
    parent.kill()
    parent.wait()
    until(lambda: not process.marked(str(tmp_path)))


def until(condition: object, seconds: float = 15) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
