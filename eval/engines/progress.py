"""Says how far an evaluation is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 5.0


def say(text: str) -> None:
    print(f"eval: {text}", file=sys.stderr, flush=True)


def progress(label: str, total: int, bar: bool) -> Callable[[int], None]:
    """A function to call with the number of requests just answered."""
    return _bar(label, total) if bar and sys.stderr.isatty() else _lines(label, total)


def _bar(label: str, total: int) -> Callable[[int], None]:
    from tqdm import tqdm

    shown = tqdm(total=total, desc=label, unit="request", dynamic_ncols=True)

    def advance(count: int) -> None:
        shown.update(count)
        if shown.n >= total:
            shown.close()

    return advance


def _lines(label: str, total: int) -> Callable[[int], None]:
    done, start = 0, time.monotonic()
    last = start

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < total:
            last = now
            left = (now - start) / done * (total - done) if done else 0
            say(f"{label}: {done}/{total}, about {duration(left)} left")

    return advance


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
