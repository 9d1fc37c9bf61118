"""A run is a directory: it holds all there is to know, and its state can be trusted after any kill."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes import LoadedRecipe, UserError, did_you_mean, load_text
from recipes.files import read_json, write_json, write_text

STATES = ("prepared", "running", "succeeded", "failed", "interrupted", "crashed")


@dataclass(frozen=True)
class Run:
    """A run directory, absolute."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def accounting(self) -> Path:
        return self.path / "data" / "accounting.json"

    def mark(self, part: int | str = 0) -> str:
        """What the processes of a part of this run, a node's training or `eval`, carry in their environment."""
        return f"{self.path}#{part}"

    def log(self, attempt: int, node: int = 0) -> Path:
        return self.path / "logs" / f"attempt-{attempt}{f'-node-{node}' if node else ''}.log"

    def read(self) -> dict[str, Any]:
        """The manifest, run.json."""
        manifest: dict[str, Any] = read_json(self.path / "run.json")
        return manifest

    def update(self, **values: Any) -> dict[str, Any]:
        manifest = self.read() | values
        write_json(self.path / "run.json", manifest)
        return manifest

    def state(self) -> str:
        """The state, with a `running` whose process is gone read as crashed."""
        manifest = self.read()
        state: str = manifest["state"]
        if state in ("running", "prepared") and not alive(manifest.get("runner")):
            return "crashed"
        return state

    def recipe(self) -> LoadedRecipe:
        """The recipe as it was resolved, paths and defaults in."""
        file = self.path / "recipe.resolved.yaml"
        return load_text(file.read_bytes(), file, sources_needed=False)

    def steps(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a torn last line is left out."""
        found = []
        if self.metrics.is_file():
            for line in self.metrics.read_text(encoding="utf-8").splitlines():
                try:
                    found.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return found


def create(loaded: LoadedRecipe, directory: Path, name: str | None, **manifest: Any) -> Run:
    """Make `directory/<name>`, or `<name>-2`, `-3`, … where it is taken; mkdir is the lock.

    Raises:
        UserError: `name` was given and is taken, or the directory cannot be written.
    """
    base = name or loaded.recipe.name
    path = _make(directory.resolve(), base, exact=name is not None)
    run = Run(path)
    (path / "recipe.yaml").write_bytes(loaded.source)
    write_text(path / "recipe.resolved.yaml", resolved_yaml(loaded))
    for folder in ("data", "backend", "logs", "checkpoints"):
        (path / folder).mkdir()
    write_json(
        path / "run.json",
        {
            "name": path.name,
            "state": "prepared",
            "recipe": str(loaded.path.resolve()),
            "overrides": list(loaded.overrides),
            "backend": loaded.recipe.backend,
            "method": loaded.recipe.method,
            "model": loaded.recipe.model.path,
            "tuning": loaded.recipe.tuning.type,
            "created": now(),
            "runner": myself(),
            "host": {"name": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()},
            "git": _git(loaded.path.resolve().parent),
            "attempts": [],
            **manifest,
        },
    )
    return run


def resolved_yaml(loaded: LoadedRecipe) -> str:
    import yaml

    return yaml.safe_dump(loaded.complete(), sort_keys=False, allow_unicode=True)


def _make(directory: Path, base: str, *, exact: bool) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(1, 100_000):
            path = directory / (base if number == 1 else f"{base}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                if exact:
                    raise UserError(f"--name {base}: {path} is there already; see `recipe runs`") from None
                continue
            return path
    except OSError as error:
        raise UserError(f"--runs-dir {directory}: {error.strerror}") from None
    raise UserError(f"--runs-dir {directory}: no free name for {base}")


def runs(directory: Path) -> Iterator[Run]:
    """The runs of a directory, oldest first."""
    found = [Run(p.parent.resolve()) for p in directory.glob("*/run.json")]
    yield from sorted(found, key=lambda run: (str(run.read().get("created", "")), run.name))


def find(name: str, directory: Path) -> Run:
    """A run by path or by name.

    Raises:
        UserError: there is none.
    """
    for path in (Path(name), directory / name):
        if (path / "run.json").is_file():
            return Run(path.resolve())
    known = [run.name for run in runs(directory)]
    raise UserError(f"{name}: no such run in {directory}{did_you_mean(name, known)} (see `recipe runs`)")


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def myself() -> dict[str, Any]:
    """This process, told apart from a later one with the same PID."""
    return process_mark(os.getpid())


def process_mark(pid: int) -> dict[str, Any]:
    import psutil

    return {"pid": pid, "started": psutil.Process(pid).create_time(), "host": platform.node()}


def alive(mark: dict[str, Any] | None) -> bool:
    """Whether a process is still there; one on another host is believed to be."""
    import psutil

    if not mark:
        return False
    if mark["host"] != platform.node():
        return True
    try:
        return bool(abs(psutil.Process(mark["pid"]).create_time() - mark["started"]) < 1)
    except psutil.NoSuchProcess:
        return False


def _git(directory: Path) -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    if not shutil.which("git"):
        return None
    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except subprocess.CalledProcessError:
        return None
