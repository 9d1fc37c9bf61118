"""Prints a run's newest log, following it while the run goes on."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from recipes import UserError
from recipes.visible import visible_log
from runner.runs.rundir import Run


def show(run: Run, *, follow: bool, lines: int | None) -> None:
    """Print the log of the newest attempt to stdout.

    Raises:
        UserError: the run has no log yet.
    """
    log = newest(run)
    if log is None:
        raise UserError(f"{run.name} has no log yet (state: {run.state()})")
    text = log.read_text(encoding="utf-8", errors="replace")
    kept = text.splitlines(keepends=True)
    sys.stdout.write(visible_log("".join(kept[-lines:] if lines else kept)))
    if follow:
        _follow(run, log, len(text.encode("utf-8", errors="replace")))


def newest(run: Run) -> Path | None:
    """The newest log; of a run that has ended the newest that says something, as what ends well at its end does not."""
    logs = sorted((run.path / "logs").glob("*.log"), key=lambda p: p.stat().st_mtime)
    said = [log for log in logs if log.stat().st_size] if run.state() not in ("running", "prepared") else []
    found = said or logs
    return found[-1] if found else None


def _follow(run: Run, log: Path, offset: int) -> None:
    while True:
        ended = run.state() not in ("running", "prepared")
        with log.open("rb") as stream:
            stream.seek(offset)
            text = stream.read()
        offset += len(text)
        sys.stdout.write(visible_log(text.decode("utf-8", errors="replace")))
        sys.stdout.flush()
        if ended:
            return
        time.sleep(0.3)
