"""The table of what was measured, and where it was."""

from __future__ import annotations

import datetime
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.gpu.jobs import DEFAULTS, WAYS, Job

TOLD = ("torch", "transformers", "llamafactory", "verl", "peft", "trl", "datasets", "accelerate", "liger-kernel")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one training gave; seconds, gigabytes (10^9 bytes) and nats."""

    tokens_per_s: float
    mfu: float | None
    memory_gb: float  # the most that PyTorch had allocated at once; on a CPU 0
    predicted_gb: float | None = None  # by the plan
    first_loss: float
    last_loss: float
    seconds: float
    versions: dict[str, str]  # of TOLD, those that trained


def smi(query: str) -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def table(results: dict[str, Result], jobs: dict[str, Job]) -> str:
    """Markdown: where it ran, by which versions, and a line a training."""
    device = next(iter(smi("name,driver_version,memory.total")), f"CPU {platform.machine()}")
    where = f"{device}; {datetime.date.today().isoformat()}; Python {platform.python_version()}"
    versions = {", ".join(f"{name} {one}" for name, one in found.versions.items()): None for found in results.values()}
    return "\n\n".join([where, *versions, "\n".join(_lines(results, jobs))]) + "\n"


def _lines(results: dict[str, Result], jobs: dict[str, Job]) -> Iterator[str]:
    yield "| job | training | tokens/s | x default | MFU | peak memory, GB | predicted | loss, first and last |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, job in jobs.items():
        for variant in (*DEFAULTS, *WAYS):
            found, default = results.get(f"{name}/{variant}"), results.get(f"{name}/default")
            if found:
                times = f"{found.tokens_per_s / default.tokens_per_s:.2f}" if default else ""
                mfu = "" if found.mfu is None else f"{found.mfu:.0%}"
                memory = f"{found.memory_gb:.1f} | {'' if found.predicted_gb is None else f'{found.predicted_gb:.1f}'}"
                figures = f"{found.tokens_per_s:,.0f} | {times} | {mfu} | {memory}"
                losses = f"{found.first_loss:.4f} → {found.last_loss:.4f}"
                yield f"| {name} | {job.label(variant)} | {figures} | {losses} |"
