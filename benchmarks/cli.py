"""CPU-seconds of what must feel instant, beyond Python's own start, beside `llamafactory-cli version`.

python -m benchmarks.cli
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import alternating, median_cpu
from runner.machine import environments
from runner.machine.environments import environment

LIMIT_S = 0.25


def main() -> int:
    peer = environments.ensure(environment("llamafactory", "cpu"), print).parent / "llamafactory-cli"
    recipe = (sys.executable, "-m", "runner.cli")
    commands = {
        "python": (sys.executable, "-c", "pass"),
        "recipe --help": (*recipe, "--help"),
        "recipe list": (*recipe, "list"),
        "recipe validate": (*recipe, "validate", "quickstart"),
        "recipe plan --json": (*recipe, "plan", "quickstart", "--json"),
    }
    with tempfile.TemporaryDirectory() as work:
        costs = alternating(commands, 7, Path(work))
        costs |= alternating({"llamafactory-cli version": (str(peer), "version")}, 2, Path(work))
    start, slowest = median_cpu(costs["python"]), median_cpu(costs["llamafactory-cli version"])
    print(f"{'command':26} {'CPU-s':>7} {'beyond python':>14} {'share of llamafactory-cli version':>35}")
    worst = 0.0
    for name, found in costs.items():
        cpu = median_cpu(found)
        print(f"{name:26} {cpu:7.3f} {cpu - start:14.3f} {cpu / slowest:35.3f}")
        worst = max(worst, cpu - start) if name.startswith("recipe") else worst
    print(f"limit {LIMIT_S} CPU-s beyond python: {'kept' if worst < LIMIT_S else 'BROKEN'} ({worst:.3f})")
    return int(worst >= LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
