"""Nodes meet through files in the run directory."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.contract import Topology
from recipes import UserError, load
from runner.failure import Failure
from runner.runs import claim as claims
from runner.runs import rundir as rundir
from runner.runs.claim import claim
from runner.runs.rundir import Run
from runner.training import nodes


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(nodes, "POLL_S", 0.01)
    made = rundir.create(load("quickstart"), tmp_path, None)
    made.update(
        state="running", attempts=(rundir.Attempt(number=1, started="", argv=(), env={}, metrics="", resume_from=None),)
    )
    with claim(made.path):
        yield made


def test_all_meet(run: Run) -> None:
    said: list[str] = []
    joined: list[int] = []
    others = [
        threading.Thread(
            target=lambda r=rank: joined.append(nodes.join(run, Topology(nodes=3, node_rank=r), said.append))
        )
        for rank in (1, 2)
    ]
    for thread in others:
        thread.start()
    nodes.call(run, Topology(nodes=3), 1, said.append)
    for thread in others:
        thread.join()
    assert joined == [1, 1]


def test_a_missing_node_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIPE_NODE_TIMEOUT", "0")
    (run.path / "backend" / "joined-1-1").touch()
    with pytest.raises(Failure, match="waiting for node 2, 3"):
        nodes.call(run, Topology(nodes=4), 1, print)


def test_an_attempt_is_joined_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that comes back after a crash does not take the old attempt for the new one."""
    nodes.call(run, Topology(), 1, print)
    node = Topology(nodes=2, node_rank=1)
    assert nodes.join(run, node, print) == 1
    monkeypatch.setenv("RECIPE_NODE_TIMEOUT", "0")
    with pytest.raises(Failure, match="waiting for node 0"):
        nodes.join(run, node, print)


def test_an_attempt_that_has_failed_is_not_joined(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes.call(run, Topology(), 1, print)
    run.update(state="failed")
    monkeypatch.setenv("RECIPE_NODE_TIMEOUT", "0")
    with pytest.raises(Failure, match="waiting for node 0"):
        nodes.join(run, Topology(nodes=2, node_rank=1), print)


def test_an_attempt_that_died_with_its_host_is_not_joined(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its manifest says `running` for ever: a node that joined it would wait in vain, and be missed by the next."""
    nodes.call(run, Topology(), 1, print)
    until = time.monotonic() + 10
    while not (run.path / ".heartbeat").is_file() and time.monotonic() < until:
        time.sleep(0.01)
    monkeypatch.setenv("RECIPE_NODE_TIMEOUT", "0")
    dead = Run(run.path.with_name("dead"))
    shutil.copytree(run.path, dead.path)
    old = time.time() - claims.STALE_S - 1
    os.utime(dead.path / ".heartbeat", (old, old))
    with pytest.raises(Failure, match="waiting for node 0"):
        nodes.join(dead, Topology(nodes=2, node_rank=1), print)
    assert nodes.join(run, Topology(nodes=2, node_rank=1), print) == 1


def test_a_wrong_timeout_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIPE_NODE_TIMEOUT", "soon")
    with pytest.raises(UserError, match="RECIPE_NODE_TIMEOUT='soon'"):
        nodes.timeout_s()


def test_one_node_waits_for_none(run: Run) -> None:
    nodes.call(run, Topology(), 1, print)
