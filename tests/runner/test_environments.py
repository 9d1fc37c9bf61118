"""Environments: complete or absent, built once, keyed by their lock."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from recipes import UserError
from runner.failure import Failure
from runner.machine import environments
from runner.machine.environments import NAMES, ON_DEMAND, Environment, environment


def empty(tmp_path: Path, text: str = "") -> Environment:
    lock = tmp_path / "requirements.lock"
    lock.write_text(text)
    return Environment(name="tiny", device="cpu", lock=lock)


def test_an_environment_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIPE_WRAP", "false")  # put before the processes of runs alone
    said: list[str] = []
    wanted = empty(tmp_path)
    python = environments.ensure(wanted, said.append)
    assert subprocess.run([str(python), "-c", ""], check=False).returncode == 0
    assert wanted.ready and len(said) == 2
    environments.ensure(wanted, said.append)
    assert len(said) == 2


def test_two_that_start_at_once_build_it_once(tmp_path: Path) -> None:
    lock = empty(tmp_path).lock
    code = f"""
        from pathlib import Path
        from runner.machine.environments import Environment, ensure
        ensure(Environment(name="tiny", device="cpu", lock=Path({str(lock)!r})), print)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = "".join(child.communicate()[0] for child in children)
    assert all(child.returncode == 0 for child in children)
    assert said.count("building the tiny environment (once") == 1


def test_one_that_was_left_half_built_is_built_anew(tmp_path: Path) -> None:
    wanted = empty(tmp_path)
    (wanted.directory / "bin").mkdir(parents=True)
    (wanted.directory / "bin" / "python").write_text("torn")
    assert subprocess.run([str(environments.ensure(wanted, print)), "-c", ""], check=False).returncode == 0


def test_another_lock_is_another_environment(tmp_path: Path) -> None:
    assert empty(tmp_path).directory != empty(tmp_path, "six==1.17.0\n").directory


def test_a_failed_build_tells_and_leaves_nothing_that_counts(tmp_path: Path) -> None:
    wanted = empty(tmp_path, "no-such-distribution-at-all==0.0.0\n")
    with pytest.raises(Failure) as caught:
        environments.ensure(wanted, print)
    assert not wanted.ready and "no-such-distribution-at-all" in str(caught.value)


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "NEEDED_GB", 10**9)
    with pytest.raises(Failure, match="no room"):
        environments.ensure(empty(tmp_path), print)


@pytest.mark.parametrize("name", (*NAMES, *ON_DEMAND))
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_locks_are_names_and_versions_only(name: str, device: str) -> None:
    for line in environment(name, device).lock.read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==[\w.!+]+( ; .+)?", line), line


def test_an_unknown_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"choose from {', '.join((*NAMES, *ON_DEMAND))}"):
        environment("axolotl", "cpu")
