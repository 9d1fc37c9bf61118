"""How the nodes of a run find each other: through files in the run directory, on storage that all of them share.

Node 0 makes the directory, prepares the data and writes `backend/ready-<attempt>`; each other node answers with
`backend/joined-<attempt>-<rank>` and starts; node 0 starts when all have answered, and names those that have not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from adapters.contract import Topology
from recipes import UserError
from recipes.files import write_text
from runner.failure import Failure
from runner.runs.claim import alive
from runner.runs.rundir import Run

POLL_S, TELL_S = 0.5, 30.0


def timeout_s() -> float:
    """How long nodes wait for each other: RECIPE_NODE_TIMEOUT seconds, half an hour by default."""
    text = os.environ.get("RECIPE_NODE_TIMEOUT", "1800")
    if not text.isdigit():
        raise UserError(f"environment variable RECIPE_NODE_TIMEOUT={text!r}; allowed: a whole number of seconds")
    return float(text)


def call(run: Run, topology: Topology, attempt: int, say: Callable[[str], None]) -> None:
    """Node 0: tell the others that all is prepared, and wait until each has answered.

    Raises:
        Failure: a node did not come; named by its rank.
    """
    write_text(run.path / "backend" / f"ready-{attempt}", "")

    def missing() -> list[str]:
        return [str(rank) for rank in range(1, topology.nodes) if not _answer(run, attempt, rank).is_file()]

    for _ in _waiting(lambda: f"waiting for node {', '.join(missing())}", say):
        if not missing():
            return


def join(run: Run, topology: Topology, say: Callable[[str], None]) -> int:
    """Another node: wait for node 0, answer it, and return the attempt to take part in.

    Raises:
        Failure: node 0 did not come, or has failed.
    """
    for _ in _waiting(lambda: f"node {topology.node_rank}: waiting for node 0 to prepare {run.path}", say):
        attempt = _called(run)
        if attempt and not _answer(run, attempt, topology.node_rank).is_file():
            write_text(_answer(run, attempt, topology.node_rank), "")
            return attempt
    raise AssertionError("waiting ends with a return or a Failure")


def _called(run: Run) -> int | None:
    """The attempt that node 0 has prepared and that is going on."""
    if not (run.path / "run.json").is_file():
        return None
    manifest = run.read()
    attempt = len(manifest.attempts)
    # Of an attempt that died with its host the manifest says `running` still.
    going_on = manifest.state == "running" and alive(run.path) and (run.path / "backend" / f"ready-{attempt}").is_file()
    return attempt if going_on else None


def _answer(run: Run, attempt: int, rank: int) -> Path:
    return run.path / "backend" / f"joined-{attempt}-{rank}"


def _waiting(what: Callable[[], str], say: Callable[[str], None]) -> Iterator[None]:
    """Yield until the caller stops; says now and then what is waited for, and gives up at the timeout."""
    started, told = time.monotonic(), -TELL_S
    while True:
        yield
        waited = time.monotonic() - started
        if waited > timeout_s():
            cause = "a node is down, has another MASTER_ADDR or NNODES, or does not see this directory"
            raise Failure(f"{what()} for {waited:.0f} s", cause=cause)
        if waited - told >= TELL_S:
            told = waited
            say(what())
        time.sleep(POLL_S)
