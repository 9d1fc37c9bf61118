"""The one door to child processes: their output to a log with secrets taken out, and no process left behind."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from recipes import UserError
from runner.failure import Failure
from runner.machine.secrets import redact, secrets, without_strangers

MARK = "RECIPE_RUN"  # in the environment of every process of a run, so that all can be found
WRAP = "RECIPE_WRAP"  # a command that is put before every process of a run: numactl, a profiler
GRACE_S = 20.0
CHUNK = 64 * 1024  # bytes; a line that is longer is written in pieces
# A directory of data must never be on a child's import path: without this, `python -m` puts its working directory
# before the standard library, and a file `torch.py` in a run that somebody sent would run (Python 3.11's -P).
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


def clean_environment(extra: Mapping[str, str] | None = None, needed: Sequence[str] = ()) -> dict[str, str]:
    """This process's variables for a child.

    Without those that would leak our own Python into it, and without secrets that are none of its business: what it
    needs besides hubs, trackers and object stores is named by `needed`, or by the user in RECIPE_PASS_ENV=NAME,NAME.
    """
    passed = [*needed, *os.environ.get("RECIPE_PASS_ENV", "").replace(",", " ").split()]
    kept = without_strangers(os.environ, passed)
    drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")
    return {k: v for k, v in kept.items() if k not in drop} | dict(extra or {})


def wrapped() -> list[str]:
    """The command of RECIPE_WRAP, as a shell would split it; found from here, wherever a child is started.

    Raises:
        UserError: it cannot be split, or there is no such command.
    """
    text = os.environ.get(WRAP, "")
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{WRAP}={text!r}: {error}") from None
    if not command:
        return []
    found = shutil.which(command[0])
    if found is None:
        raise UserError(f"{WRAP}={text!r}: there is no command {command[0]!r}")
    return [str(Path(found).absolute()), *command[1:]]


class Interrupted(Exception):
    """^C, SIGTERM or SIGHUP came; carries the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Signals:
    """How many signals have come: the first ends the work, a second one what still ends, at once."""

    count = 0
    shielded = False


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within it, ^C, SIGTERM and SIGHUP raise Interrupted, so that children are ended and states written.

    Only the first one is raised: what it makes end must not be torn by the second, which has children killed at once.
    A signal that the caller ignores (SIGHUP under nohup) stays ignored.
    """

    def handler(number: int, _frame: object) -> None:
        _Signals.count += 1
        if _Signals.count == 1 and not _Signals.shielded:
            raise Interrupted(number)

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    old = {number: signal.signal(number, handler) for number in numbers}
    _Signals.count = 0
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


@contextmanager
def shielded() -> Iterator[None]:
    """Within it a signal is counted, not raised: for the moments in which a state is written down."""
    _Signals.shielded = True
    try:
        yield
    finally:
        _Signals.shielded = False


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    mark: str,
    poll: Callable[[], None] = lambda: None,
    wrap: bool = True,
) -> int:
    """Run a command to its end; its output goes to `log`. Returns its exit code (negative: a signal).

    `poll` is called a few times a second. Whatever ends this call ends every process of the command too. `wrap`: behind
    the command of RECIPE_WRAP, where there is one.

    Raises:
        UserError: RECIPE_WRAP is wrong.
        Failure: the log could not be written, and the command failed as well or was not heard to its end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as stream:  # what cannot be written must not come back at its closing
        child = _start(argv, cwd, env, mark, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, wrap=wrap)
        assert child.stdout
        copy = _Copy(child.stdout, stream, secrets(env))
        copy.start()
        try:
            wait = 0.02
            while child.poll() is None:
                poll()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(wait)
                wait = min(wait * 1.5, 0.25)
            poll()
        finally:
            end_all(mark, child)
            copy.join(5)
    if copy.error and child.returncode:
        raise Failure(
            f"{Path(argv[0]).name} ended with exit code {child.returncode}, and its log could not be written",
            cause=f"{log}: {copy.error.strerror}; free some room and go on with `recipe resume`",
        )
    return child.returncode


@contextmanager
def talking(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, mark: str, wrap: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that is asked on its stdin and answers on its stdout; its stderr goes to `log`, without secrets.

    `wrap`: as for `run`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as stream:
        child = _start(argv, cwd, env, mark, stdin=subprocess.PIPE, stderr=subprocess.PIPE, wrap=wrap)
        assert child.stderr
        copy = _Copy(child.stderr, stream, secrets(env))
        copy.start()
        try:
            yield child
        finally:
            end_all(mark, child)
            copy.join(5)


def _start(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], mark: str, *, stdin: int, stderr: int, wrap: bool
) -> subprocess.Popen[bytes]:
    """A child in a session of its own, that can be found by its mark and ends with this process."""
    return subprocess.Popen(
        [*wrapped(), *argv] if wrap else argv,
        cwd=cwd,
        env={**env, **SAFE_PATH, MARK: mark},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


class _Copy(threading.Thread):
    """Copies a child's output to its log, line by line and without secrets.

    Where the log cannot be written any more (a full disk), it goes on reading: a pipe that nobody empties would make
    the child wait for ever.
    """

    def __init__(self, source: IO[bytes], target: IO[bytes], hidden: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.source, self.target, self.hidden = source, target, hidden
        self.error: OSError | None = None

    def run(self) -> None:
        while line := self.source.readline(CHUNK):
            text = redact(line.decode("utf-8", "replace"), self.hidden)
            try:
                self.target.write(text.encode("utf-8", "replace"))
            except OSError as error:
                self.error = error


def _die_with_parent() -> None:
    """If the runner is killed outright, the kernel asks the child to end (Linux): no training without its runner."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def end_all(mark: str, child: subprocess.Popen[bytes] | None = None) -> list[int]:
    """End every process of a run: its group first, then what is found by its mark; returns the PIDs that were found.

    A torchrun that is told to end can leave workers behind, in sessions of their own: they are found by environment.
    A second signal from the user has all of them killed at once.
    """
    if child is not None and child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        wait_until(lambda: child.poll() is not None, GRACE_S)
        _signal_group(child.pid, signal.SIGKILL)
    left = marked(mark)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        wait_until(lambda: not marked(mark), 3)
    if child is not None:
        child.wait()
    return left


def wait_until(done: Callable[[], bool], seconds: float) -> None:
    """Until it is done, the time is over, or the user has lost patience."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline and _Signals.count < 2:
        time.sleep(0.05)


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
