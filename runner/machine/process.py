"""The one door to child processes: their output to a log with secrets taken out, and no process left behind."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

MARK = "RECIPE_RUN"  # in the environment of every process of a run, so that all can be found
GRACE_S = 20.0
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|CREDENTIAL", re.IGNORECASE)


class Interrupted(Exception):
    """^C, SIGTERM or SIGHUP came; carries the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within it, ^C, SIGTERM and SIGHUP raise Interrupted, so that children are ended and states written."""

    def handler(number: int, _frame: object) -> None:
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    mark: str,
    poll: Callable[[], None] = lambda: None,
    started: Callable[[int], None] = lambda pid: None,
) -> int:
    """Run a command to its end; its output goes to `log`. Returns its exit code (negative: a signal).

    `poll` is called a few times a second. Whatever ends this call ends every process of the command too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**env, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        reader = threading.Thread(target=_copy, args=(child.stdout, stream, secrets(env)), daemon=True)
        reader.start()
        try:
            started(child.pid)
            wait = 0.02
            while child.poll() is None:
                poll()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(wait)
                wait = min(wait * 1.5, 0.25)
            poll()
        finally:
            end_all(mark, child)
            reader.join(5)
    return child.returncode


def secrets(env: Mapping[str, str]) -> list[str]:
    """Values that must not be written down: those of variables named like a token, key or password."""
    return [value for name, value in env.items() if _SECRET.search(name) and len(value) >= 8]


def redact(text: str, hidden: Sequence[str]) -> str:
    for value in hidden:
        text = text.replace(value, "[redacted]")
    return text


def _copy(source: IO[str] | None, target: IO[str], hidden: Sequence[str]) -> None:
    if source is None:
        return
    for line in source:
        target.write(redact(line, hidden))
        target.flush()


def _die_with_parent() -> None:
    """If the runner is killed outright, the kernel asks the child to end (Linux): no training without its runner."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def end_all(mark: str, child: subprocess.Popen[str] | None = None) -> list[int]:
    """End every process of a run: its group first, then what is found by its mark; returns the PIDs that were found.

    A torchrun that is told to end can leave workers behind, in sessions of their own: they are found by environment.
    """
    if child is not None and child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
        _signal_group(child.pid, signal.SIGKILL)
    left = marked(mark)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 3
        while marked(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
    if child is not None:
        child.wait()
    return left


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def marked(mark: str) -> list[int]:
    """PIDs of the live processes that carry a run's mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            dead = (entry / "stat").read_text(errors="replace").rpartition(") ")[2].startswith("Z")
        except OSError:  # ended meanwhile, or another user's
            continue
        if wanted in environment and not dead and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found
