"""CPU and wall seconds of a command as a whole process, alternating between commands so that drift hits all alike."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.files import cache_directory
from runner.machine.pip_settings import uv_call
from runner.machine.process import clean_environment


@dataclass(frozen=True)
class Cost:
    """Seconds of one run of a command; cpu is user and system time, children included."""

    cpu: float
    wall: float


def once(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Cost:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        argv, cwd=cwd, env=env or os.environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def alternating(commands: Mapping[str, Sequence[str]], rounds: int, cwd: Path) -> dict[str, list[Cost]]:
    """One uncounted round, then `rounds` counted ones, each command once a round."""
    found: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, argv in commands.items():
            cost = once(argv, cwd)
            if number:
                found[name].append(cost)
    return found


def median_cpu(costs: Sequence[Cost]) -> float:
    return statistics.median(cost.cpu for cost in costs)


def venv(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of a peer's own virtual environment, made where it is not there yet."""
    directory = cache_directory() / "environments" / f"benchmark-{name}"
    python, marker = directory / "bin" / "python", directory / "complete"
    if not marker.is_file() or marker.read_text(encoding="utf-8").split() != list(requirements):
        print(f"installing {', '.join(requirements)} in {directory}")
        shutil.rmtree(directory, ignore_errors=True)
        for words in (
            ["venv", "--quiet", "--python", sys.executable, str(directory)],
            ["pip", "install", "--quiet", "--python", str(python), *requirements],
        ):
            command, env = uv_call(words, clean_environment())
            subprocess.run(command, env=env, check=True)
        marker.write_text("\n".join(requirements), encoding="utf-8")
    return python
