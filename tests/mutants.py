"""Tries mutmut's mutants on the unit tests, and prints how many these killed, by package.

Usage: python -m tests.mutants MUTMUT [PATTERN…]    (default: a sample of COUNT, drawn by chance)
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatchcase
from math import sqrt

COUNT = 400  # of some 20,000: the score within 4 in 100
DIED = ("killed", "timeout")


def main(mutmut: str, patterns: list[str]) -> None:
    chosen = None if patterns else _sample(mutmut)
    done = subprocess.run([mutmut, "run", *(chosen or patterns)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit((done.stdout + done.stderr)[-5000:])
    tried: Counter[str] = Counter()
    died: Counter[str] = Counter()
    for name, state in _results(mutmut).items():
        if name in chosen if chosen else any(fnmatchcase(name, pattern) for pattern in patterns):
            part = name.partition(".")[0] if chosen else name.rpartition(".")[0]
            tried[part] += 1
            died[part] += state in DIED
            if state not in DIED:
                print(f"{state}: {name}")
    for part in sorted(tried):
        print(f"{part:40} {died[part]:5} of {tried[part]:5} killed  {died[part] / tried[part]:.0%}")
    total, share = tried.total(), died.total() / tried.total()
    margin = f" ± {1.96 * sqrt(share * (1 - share) / total):.1%}" if chosen else ""
    print(f"{'all':40} {died.total():5} of {total:5} killed  {share:.1%}{margin}")


def _sample(mutmut: str) -> set[str]:
    """Names drawn from all mutants, which mutmut makes before it finds that none is called as it is asked."""
    made = subprocess.run([mutmut, "run", "none"], capture_output=True, text=True, check=False)
    every = sorted(_results(mutmut))
    if not every:
        sys.exit(made.stdout + made.stderr)
    print(f"{len(every):,} mutants")
    return set(random.Random(0).sample(every, min(COUNT, len(every))))


def _results(mutmut: str) -> dict[str, str]:
    """How each mutant ended, by its name."""
    done = subprocess.run([mutmut, "results", "--all", "true"], capture_output=True, text=True, check=True)
    lines = (line.strip().partition(": ") for line in done.stdout.splitlines())
    return {name: state for name, colon, state in lines if colon}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
