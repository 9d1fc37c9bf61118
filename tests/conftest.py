"""Fixtures for every test: a home and a cache of their own, so that no test can touch the user's."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from runner.machine.process import WRAP
from tests.real.warm.server import Server

# A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")

MINIMAL = """\
backend: llamafactory
method: sft
model: {path: Qwen/Qwen3-4B}
data:
  train:
    - path: org/rows
"""

# A shell has what it starts with `&` ignore ^C, and so would the commands under test; a user's do not.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit tests get an empty home; the real runs share the built environments."""
    for name in ("N_GPUS", "NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_NNODES"):
        monkeypatch.delenv(name, raising=False)
    if "real" not in request.keywords:
        monkeypatch.delenv(WRAP, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("RECIPE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a recipe's text to a file and return its path."""

    def _write(text: str, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.fixture
def minimal(write: Callable[[str], Path]) -> Path:
    return write(MINIMAL)


_SERVER = pytest.StashKey[Server]()


def pytest_configure(config: pytest.Config) -> None:
    """Real tests fork the processes of a run from warm interpreters, of one server for all workers."""
    if not hasattr(config, "workerinput") and not os.environ.get("RECIPE_COLD") and sys.platform == "linux":
        config.stash[_SERVER] = Server()
        os.environ[WRAP] = shlex.join(config.stash[_SERVER].command)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SERVER in config.stash:
        del os.environ[WRAP]
        config.stash[_SERVER].close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="rewrite the golden plans")
