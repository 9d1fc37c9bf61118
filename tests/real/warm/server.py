"""Hands clients to interpreters, which it starts when they are first asked for: one for all workers of pytest."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.real.warm.interpreter import receive

HERE = Path(__file__).parent
KEPT = 8  # interpreters, each of up to 1 GB


class Server:
    """Answers at a Unix socket, in a thread, so that the CPU time of all is that of this process's children."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()  # pytest's own is too long for the address of a socket
        address = str(Path(self._directory.name) / "socket")
        self.command = [sys.executable, "-IS", str(HERE / "client.py"), address]
        workers = Path(self._directory.name) / "python"
        client = shlex.join(self.command)
        workers.write_text(f'#!/bin/sh\nexec {client} "$RECIPE_PYTHON" "$@"\n', encoding="utf-8")
        workers.chmod(0o755)
        self._interpreters: dict[str, tuple[subprocess.Popen[bytes], socket.socket]] = {}
        self._ending: list[subprocess.Popen[bytes]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(address)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._directory.cleanup()
        while self._interpreters:
            self._end_oldest()
        for child in self._ending:
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:  # a test has left a process of its own behind
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # closed
                return
            with client, contextlib.suppress(OSError, EOFError):  # one of both was killed: the client sees an end
                asked = receive(client)
                key = repr((asked["python"], asked["modules"], sorted(asked["env"].items())))
                found = self._interpreters.pop(key, None) or self._started(**asked)
                self._interpreters[key] = found  # the newest last
                socket.send_fds(found[1], [b"c"], [client.fileno()])

    def _started(self, python: str, modules: str, env: dict[str, str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if len(self._interpreters) >= KEPT:
            self._end_oldest()
        ours, theirs = socket.socketpair()
        with theirs:
            quiet = ["-W", "ignore:This process (pid="]  # is multi-threaded, says Python 3.12 at each fork
            command = [python, "-u", *quiet, str(HERE / "interpreter.py"), str(theirs.fileno()), modules]
            child = subprocess.Popen(
                command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        return child, ours

    def _end_oldest(self) -> None:
        child, channel = self._interpreters.pop(next(iter(self._interpreters)))
        channel.close()  # it ends behind the processes that it has forked
        self._ending.append(child)
