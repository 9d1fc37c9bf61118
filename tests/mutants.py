"""Prints how many of mutmut's mutants the unit tests killed, by module.

Usage: python -m tests.mutants MUTMUT
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter


def main(mutmut: str) -> None:
    done = subprocess.run([mutmut, "results", "--all", "true"], capture_output=True, text=True, check=True)
    tried: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        name, _, state = line.strip().partition(": ")
        if state and state != "not checked":
            module = name.rpartition(".")[0]
            tried[module] += 1
            killed[module] += state in ("killed", "timeout")
    for module in sorted(tried):
        print(f"{module:40} {killed[module]:5} of {tried[module]:5} killed  {killed[module] / tried[module]:.0%}")
    if total := tried.total():
        print(f"{'all':40} {killed.total():5} of {total:5} killed  {killed.total() / total:.0%}")


if __name__ == "__main__":
    main(sys.argv[1])
