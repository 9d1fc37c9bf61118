"""The sandbox for code that a model wrote: what it tries to reach is not there, and what it breaks is its own."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.suites.lm_eval import sandbox
from recipes.errors import UserError

OUTSIDE = os.getpid()


@pytest.fixture(autouse=True)
def made() -> None:
    """Where a kernel or container forbids it, there is a sentence in its place."""
    try:
        sandbox.check()
    except UserError as error:
        assert "user namespaces" in str(error)
        pytest.skip(str(error))


def outcome(call: Callable[[], Any]) -> str:
    """What a call in the sandbox gives, as text, or what it raises."""

    def tried() -> str:
        try:
            return f"gave {call()}"
        except Exception as error:  # noqa: BLE001 - told
            return f"{type(error).__name__}: {error}"

    return str(sandbox.run(tried))


def test_it_gives_what_the_call_gives() -> None:
    assert sandbox.run(lambda: {"pass@1": 1.0, "all": [True, None, "é"]}) == {"pass@1": 1.0, "all": [True, None, "é"]}
    with pytest.raises(sandbox.Raised, match="ZeroDivisionError: division by zero"):
        sandbox.run(lambda: 1 / 0)
    with pytest.raises(sandbox.Raised, match="not JSON serializable"):
        sandbox.run(object)


def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        socket.create_connection(address, timeout=5).close()
        assert "unreachable" in outcome(lambda: socket.create_connection(address, timeout=5))
        assert "Bad file descriptor" in outcome(lambda: os.fstat(server.fileno())), "nor one that was open"


def test_no_socket_of_a_service_is_there(tmp_path: Path) -> None:
    if not str(tmp_path).startswith(sandbox.EMPTY):
        pytest.skip("temporary files lie elsewhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name := os.path.relpath(tmp_path / "s", Path.cwd()))
        server.listen()
        here = str(Path(name).resolve())
        assert "No such file" in outcome(lambda: socket.socket(socket.AF_UNIX).connect(here))


def test_nothing_is_written_but_temporary_files(tmp_path: Path) -> None:
    for place in (Path.home(), Path.cwd(), Path("/etc"), Path(sys.prefix)):
        if place.is_dir():
            told = outcome(lambda place=place: (place / "of_a_model").write_text("a"))
            hidden = str(place).startswith(sandbox.EMPTY) and place != Path(sys.prefix)  # there is memory in its place
            assert hidden or "Read-only" in told
            assert not (place / "of_a_model").exists()
    assert outcome(lambda: Path("own").write_text("abc") and Path("own").read_text()) == "gave abc"
    assert not Path("/tmp/own").exists()


def test_modules_that_lie_among_temporary_files_are_there_and_nothing_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment's, where the cache directory, or a checkout, is in /tmp."""
    if not str(tmp_path).startswith(sandbox.EMPTY):
        pytest.skip("temporary files lie elsewhere")
    modules = tmp_path / "modules"
    (modules / "below").mkdir(parents=True)
    (modules / "below" / "of_the_sandbox.py").write_text("NUMBER = 41\n")
    (tmp_path / "beside").write_text("secret")
    for path in ("/tmp", str(modules), str(modules / "below")):
        monkeypatch.syspath_prepend(path)
    assert outcome(lambda: importlib.import_module("of_the_sandbox").NUMBER) == "gave 41"
    assert "No such file" in outcome((tmp_path / "beside").read_text)
    assert "Read-only" in outcome(lambda: (modules / "new").write_text("a"))
    libc = ctypes.CDLL(None, use_errno=True)
    assert outcome(lambda: libc.umount2(os.fsencode(modules), 2)) == "gave -1"


def test_file_systems_stay_read_only_for_who_takes_rights_in_other_namespaces() -> None:
    def again() -> list[int]:
        libc = ctypes.CDLL(None, use_errno=True)
        first = libc.mount(None, b"/", None, 32, None)  # remount
        libc.unshare(sandbox._USER | sandbox._MOUNTS)
        writable = struct.pack("QQQQ", 0, sandbox._READ_ONLY, 0, 0)
        return [first, libc.syscall(sandbox._MOUNT_SETATTR, -100, b"/", 0x8000, writable, len(writable))]

    assert sandbox.run(again) == [-1, -1]


def test_no_other_process_is_reached_or_left() -> None:
    assert "ProcessLookupError" in outcome(lambda: os.kill(OUTSIDE, 0))
    mark = f"{time.time()}"
    assert outcome(lambda: subprocess.Popen(["sleep", "600", mark]).poll()) in ("gave None", "gave 1")
    time.sleep(0.2)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert mark.encode() not in entry.read_bytes(), "it ends with its sandbox"
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_variables_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert outcome(lambda: os.environ.get("HF_TOKEN")) == "gave None"


def test_memory_time_and_processes_have_bounds() -> None:
    assert outcome(lambda: len(bytearray(sandbox.MEMORY * 2))) == "MemoryError: "

    def many() -> int:
        for _ in range(2 * sandbox.PROCESSES):
            if not os.fork():
                time.sleep(60)
                os._exit(0)
        return 2 * sandbox.PROCESSES

    assert outcome(many).startswith("BlockingIOError" if os.getuid() else "gave 512")
    start = time.monotonic()
    with pytest.raises(sandbox.Ended, match="no end within 1 s"):
        sandbox.run(lambda: time.sleep(60), seconds=1.0)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("end", [lambda: os._exit(3), lambda: signal.raise_signal(signal.SIGKILL)])
def test_a_program_that_ends_it_all_is_told(end: Callable[[], Any]) -> None:
    """SIGKILL of itself is passed over by the kernel: it is the first process of its own."""
    try:
        assert sandbox.run(end) is None
    except sandbox.Ended as ended:
        assert str(ended) == "the process ended by itself"


def test_the_measures_own_processes_work() -> None:
    """As code_eval runs each program: a manager, its socket, its semaphores, and a child."""

    def run() -> list[int]:
        with multiprocessing.get_context("fork").Manager() as manager:
            shared = manager.list()
            child = multiprocessing.get_context("fork").Process(target=shared.append, args=(4,))
            child.start()
            child.join(10)
            return list(shared)

    assert sandbox.run(run) == [4]
