"""Runs code that a model wrote, in a child that can reach nothing: Linux namespaces, of any user.

The child is a fork of the caller, so that a task's own functions are there, in namespaces of its own: without a
network, seeing no other process, with every file system read-only and empty directories in memory where sockets of
services and temporary files lie, but for the modules that Python imports. It has none of the caller's open files and
rights, and bounds of time and memory. What it answers is JSON. It may read files of the user's: what it has read, it
can tell nobody.

Needs Linux 5.12 and user namespaces (some containers forbid them). The kernel counts no processes of root: as root,
what forks without end does so until its time is over.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from recipes.errors import UserError

SECONDS, CPU_SECONDS = 120.0, 60  # of one call, and of one process in it
MEMORY, FILES, PROCESSES = 4 << 30, 256 << 20, 256  # bytes above what is there at the start; bytes; at once
LONGEST_ANSWER = 1 << 20  # bytes
EMPTY = ("/tmp", "/var/tmp", "/dev/shm", "/run")

_USER, _MOUNTS, _NETWORK, _PIDS, _IPC = 0x10000000, 0x20000, 0x40000000, 0x20000000, 0x08000000
_PRIVATE, _BELOW = 1 << 18, 0x4000
_NO_DEVICES = 0x2 | 0x4  # nosuid, nodev
_MOUNT_SETATTR, _HERE, _ALL_BELOW, _READ_ONLY = 442, -100, 0x8000, 1
_OPEN_TREE, _MOVE_MOUNT, _COPY, _OF_THE_FILE = 428, 429, 1, 4
_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _CAPABILITIES_3 = 1, 38, 0x20080522


class Ended(Exception):
    """The child gave no answer: it was killed by a limit, or by itself."""


class Raised(Exception):
    """The call raised; the message says what."""


def check() -> None:
    """Try the sandbox.

    Raises:
        UserError: it cannot be made here.
    """
    try:
        run(lambda: None, seconds=20.0)
    except (Ended, Raised) as error:
        text = f"no sandbox can be made for code that a model writes: {error}"
        raise UserError(f"{text}; it needs Linux 5.12 with user namespaces, which some containers forbid") from None


def run(call: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What a call gives, made in the sandbox: a JSON value.

    Raises:
        Ended: it did not return in time, or at all.
        Raised: it raised, or gave what is no JSON.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        _enter(call, writing)
    os.close(writing)
    try:
        answer = _read(reading, time.monotonic() + seconds)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    try:
        told = json.loads(answer)
    except ValueError:
        late = os.WIFSIGNALED(status)  # by us: else it had ended before
        raise Ended(f"no end within {seconds:.0f} s" if late else "the process ended by itself") from None
    if "error" in told:
        raise Raised(str(told["error"]))
    return told["value"]


def _read(pipe: int, until: float) -> bytes:
    answer = b""
    while len(answer) < LONGEST_ANSWER and (left := until - time.monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            part = os.read(pipe, 1 << 16)
            if not part:
                break
            answer += part
    return answer


def _enter(call: Callable[[], Any], pipe: int) -> NoReturn:
    """In the child: make the namespaces; its own child, the first process of them, makes the call."""
    try:
        _separate()
        inner = os.fork()
        if inner:
            os.waitpid(inner, 0)  # whatever it has started ends with it
            os._exit(0)
        _shut(pipe)
        told = json.dumps({"value": call()})
    except BaseException as error:  # noqa: BLE001 - told to the caller, whatever it is
        told = json.dumps({"error": f"{type(error).__name__}: {error}"[:500]})
    try:
        os.write(pipe, told.encode())
    finally:
        os._exit(0)


def _separate() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    _done(libc.unshare(_USER | _MOUNTS | _NETWORK | _PIDS | _IPC), "namespaces")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _shut(pipe: int) -> None:
    """Give up what the first process of the namespaces has: files, variables, rights; and set its bounds."""
    libc = ctypes.CDLL(None, use_errno=True)
    _done(libc.mount(None, b"/", None, _PRIVATE | _BELOW, None), "mounts")
    attributes = struct.pack("QQQQ", _READ_ONLY, 0, 0, 0)
    told = libc.syscall(_MOUNT_SETATTR, _HERE, b"/", _ALL_BELOW, attributes, len(attributes))
    _done(told, "file systems that are read-only")
    copies = {path: _copy_of(libc, path) for path in _modules()}
    for directory in filter(os.path.isdir, EMPTY):
        size = f"size={FILES},mode=1777".encode()
        _done(libc.mount(b"none", directory.encode(), b"tmpfs", _NO_DEVICES, size), f"an empty {directory}")
    for path, copy in copies.items():
        path.mkdir(parents=True, exist_ok=True)
        told = libc.syscall(_MOVE_MOUNT, copy, b"", _HERE, os.fsencode(path), _OF_THE_FILE)
        _done(told, f"the modules in {path}")
    libc.mount(b"proc", b"/proc", b"proc", _NO_DEVICES, None)  # where it is refused, the read-only one stays
    os.chdir("/tmp")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(PATH="/usr/bin:/bin", HOME="/tmp", TMPDIR="/tmp", HF_ALLOW_CODE_EVAL="1", OMP_NUM_THREADS="1")
    tempfile.tempdir = None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY),
        (resource.RLIMIT_FSIZE, FILES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    header, none = struct.pack("Ii", _CAPABILITIES_3, 0), struct.pack("6I", *[0] * 6)
    _done(libc.capset(header, none), "a process without rights")
    _done(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "a process that gets no rights")
    _done(libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "an end with its parent")


def _modules() -> list[Path]:
    """The directories that Python imports from, and its own, which lie where there are to be empty ones."""
    known = {Path(path).resolve() for path in (sys.prefix, sys.base_prefix, *sys.path) if path}
    below = [path for path in known if path.is_dir() and any(Path(one) in path.parents for one in EMPTY)]
    return [path for path in below if not any(path != other and path.is_relative_to(other) for other in below)]


def _copy_of(libc: ctypes.CDLL, path: Path) -> int:
    """A mount of a directory, read-only as that is, which nothing hides."""
    copy = int(libc.syscall(_OPEN_TREE, _HERE, os.fsencode(path), _COPY | _ALL_BELOW | os.O_CLOEXEC))
    _done(copy < 0, f"the modules in {path}")
    return copy


def _done(status: int, what: str) -> None:
    if status:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
