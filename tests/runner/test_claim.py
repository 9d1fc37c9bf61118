"""One process at a time works on a run, and whether it is there is known whatever its PID, host or clock."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from runner.runs import claim as claims
from runner.runs.claim import Claimed, alive, claim, held

HOLD = """
import sys, time
from pathlib import Path
from runner.runs.claim import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "held\n"
    return child


def test_a_claim_is_held_by_one(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert held(tmp_path)
    with pytest.raises(Claimed), claim(tmp_path):
        raise AssertionError
    holder.kill()
    holder.wait()
    assert not held(tmp_path)
    with claim(tmp_path):
        assert held(tmp_path)
    assert not held(tmp_path)


def test_of_many_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    got, refused, go = [], [], threading.Barrier(8)

    def come(n: int) -> None:
        go.wait()
        try:
            with claim(tmp_path):
                got.append(n)
                time.sleep(2 * claims.TRIES * claims.WAIT_S)
        except Claimed:
            refused.append(n)

    threads = [threading.Thread(target=come, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and len(refused) == 7


def test_who_looks_takes_it_from_nobody(tmp_path: Path) -> None:
    stop = threading.Event()
    looking = threading.Thread(target=lambda: [held(tmp_path) for _ in iter(stop.is_set, True)])
    looking.start()
    for _ in range(20):
        with claim(tmp_path):
            pass
    stop.set()
    looking.join()


def test_a_heartbeat_of_another_host_counts_while_it_is_fresh(tmp_path: Path) -> None:
    """Two containers see no locks of each other; a restarted one has another name, and must get its run back."""
    beat = tmp_path / ".heartbeat"
    beat.write_text("pod-7f9c")
    assert held(tmp_path)
    for _ in range(2):  # who is refused must not take the other's heartbeat away
        with pytest.raises(Claimed, match="host pod-7f9c was seen"), claim(tmp_path):
            raise AssertionError
    with claim(tmp_path, take_over=True):
        pass
    beat.write_text("pod-7f9c")
    old = time.time() - claims.STALE_S - 1
    os.utime(beat, (old, old))
    assert not held(tmp_path)
    with claim(tmp_path):
        pass


def test_one_can_wait_for_a_process_that_is_perhaps_gone_with_its_host(tmp_path: Path) -> None:
    beat = tmp_path / ".heartbeat"
    beat.write_text("node-7")
    nearly = time.time() - claims.STALE_S + 2
    os.utime(beat, (nearly, nearly))
    assert held(tmp_path) and alive(tmp_path)
    with pytest.raises(Claimed), claim(tmp_path):
        raise AssertionError
    began = time.monotonic()
    with claim(tmp_path, wait_s=20):
        assert 1 < time.monotonic() - began < 10
    assert not alive(tmp_path)


def test_waiting_does_not_take_it_from_one_who_is_there(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(Claimed), claim(tmp_path, wait_s=2):
        raise AssertionError
    assert alive(tmp_path)
    holder.kill()
    holder.wait()


def test_a_claim_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), claim(tmp_path / "run"):
        raise AssertionError
    assert not (tmp_path / "elsewhere").exists()


def test_a_claim_that_ends_at_once_leaves_no_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that is being written either: another host would wait for it, and the directory could not be removed."""
    monkeypatch.setattr(platform, "node", lambda: time.sleep(0.1) or "here")
    with claim(tmp_path):
        pass
    time.sleep(0.3)
    assert not (tmp_path / ".heartbeat").exists()
