"""Who works on a run: one process at a time, and whether it is still there.

The kernel gives a lock back when its holder ends, however it ends, whatever its PID, host name or clock was. Where the
file system has no locks between hosts, a heartbeat shows that a holder on another host is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT_S = 5.0
STALE_S = 60.0  # a heartbeat older than this is of a process that is gone
TRIES, WAIT_S = 10, 0.1  # one who looks whether a claim is held holds it for an instant


class Claimed(Exception):
    """Another process has the claim."""


@contextmanager
def claim(directory: Path, *, take_over: bool = False, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a directory's claim; released by the kernel at the latest.

    Args:
        take_over: go on where only a heartbeat from another host says that somebody is there.
        wait_s: how long to wait for another that may be gone with its host: its heartbeat then grows old.

    Raises:
        Claimed: another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    beating = threading.Event()
    thread = threading.Thread(target=_keep_beating, args=(directory, beating), daemon=True)
    try:
        _take(directory, descriptor, take_over, wait_s)
        thread.start()
        yield
    finally:
        if thread.ident:  # of another, who was there first, the heartbeat stays
            beating.set()
            thread.join(BEAT_S)  # a beat that is under way would stay, for others to wait for
            with suppress(OSError):
                (directory / ".heartbeat").unlink(missing_ok=True)
        os.close(descriptor)


def held(directory: Path) -> bool:
    """Whether a process holds a directory's claim, here or on another host."""
    try:
        descriptor = os.open(directory / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return _beats_elsewhere(directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        pass
    finally:
        os.close(descriptor)
    return _beats_elsewhere(directory)


def alive(directory: Path) -> bool:
    """Whether somebody holds the claim, or has until a moment ago: for those who wait for its holder.

    Unlike `held` it does not depend on locks between hosts, nor on hosts having different names.
    """
    return held(directory) or _age(directory) < STALE_S


def _take(directory: Path, descriptor: int, take_over: bool, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            _lock(descriptor)
            if not take_over and _beats_elsewhere(directory):
                raise Claimed(f"a process on host {_beat(directory)[0]} was seen {_age(directory):.0f} s ago")
            return
        except Claimed:
            if time.monotonic() >= deadline:
                raise
            time.sleep(1)


def _lock(descriptor: int) -> None:
    for left in reversed(range(TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise Claimed("a process on this host has it") from None
            time.sleep(WAIT_S)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                return  # no locks here: the heartbeat is all there is
            raise


def _keep_beating(directory: Path, ended: threading.Event) -> None:
    while not ended.is_set():
        # A full disk must not end a training: the next beat may find room.
        with suppress(OSError):
            (directory / ".heartbeat").write_text(platform.node(), encoding="utf-8")
        ended.wait(BEAT_S)


def _beat(directory: Path) -> tuple[str, float]:
    """The host of the last heartbeat, and its time."""
    file = directory / ".heartbeat"
    try:
        return file.read_text(encoding="utf-8", errors="replace"), file.stat().st_mtime
    except OSError:
        return "", 0.0


def _age(directory: Path) -> float:
    return max(0.0, time.time() - _beat(directory)[1])


def _beats_elsewhere(directory: Path) -> bool:
    host, _ = _beat(directory)
    return bool(host) and host != platform.node() and _age(directory) < STALE_S
