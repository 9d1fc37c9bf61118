"""A run is a directory: it holds all there is to know, and its state can be trusted after any kill."""

from __future__ import annotations

import datetime
import json
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.contract import Metrics, Topology
from recipes import LoadedRecipe, UserError, did_you_mean, load_text
from recipes.files import TEMPORARY, write_text
from recipes.typed import read_typed, write_typed
from recipes.yaml_text import dump
from runner.runs import claim
from runner.runs.manifest import Attempt as Attempt
from runner.runs.manifest import Conditions as Conditions
from runner.runs.manifest import Manifest as Manifest
from runner.runs.manifest import MemoryUse as MemoryUse
from runner.runs.manifest import Parent as Parent
from runner.runs.manifest import Runner as Runner
from runner.runs.manifest import State as State

HERE = Topology()
RECIPE = "recipe.yaml"
FOLDERS = ("data", "backend", "logs", "checkpoints")
LAUNCH = "launch"  # the directory of a run that `recipe launch` makes before the run begins


class Damaged(UserError):
    """A run's manifest is torn, or is none."""


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

    def read(self) -> Manifest:
        """The manifest, run.json.

        Raises:
            Damaged: it is torn, or not a manifest.
        """
        file = self.path / "run.json"
        try:
            return read_typed(Manifest, file)
        except OSError as error:
            raise Damaged(f"{file}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{file}: damaged: {error}") from None

    def update(self, **values: Any) -> Manifest:
        """Change fields of the manifest."""
        manifest = replace(self.read(), **values)
        write_typed(self.path / "run.json", manifest)
        return manifest

    def state(self) -> str:
        """The state, with a `running` that nobody works on any more read as crashed."""
        state = self.read().state
        return "crashed" if state in ("running", "prepared") and not claim.held(self.path) else state

    def state_or_damaged(self) -> str:
        """As `state`; `damaged` where the manifest cannot be read."""
        try:
            return self.state()
        except Damaged:
            return "damaged"

    def recipe(self) -> LoadedRecipe:
        """The recipe as it was resolved, paths and defaults in.

        Raises:
            UserError: the file is gone, or is no recipe.
        """
        file = self.path / "recipe.resolved.yaml"
        try:
            return load_text(file.read_bytes(), file, sources_needed=False)
        except OSError as error:
            raise Damaged(f"{file}: {error.strerror}") from None

    def steps(self) -> list[Metrics]:
        """The lines of metrics.jsonl; a torn last line is left out."""
        found: list[Metrics] = []
        if self.metrics.is_file():
            for line in self.metrics.read_text(encoding="utf-8").splitlines():
                try:
                    found.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return found


def create(
    loaded: LoadedRecipe,
    directory: Path,
    name: str | None,
    topology: Topology = HERE,
    parent: Parent | None = None,
    *,
    begun: bool = False,
) -> Run:
    """Make `directory/<name>`, or `<name>-2`, `-3`, … where it is taken; mkdir is the lock.

    Args:
        begun: take the directory of that name where it holds no run yet: a launch made it, or a kill came at once.

    Raises:
        UserError: `name` was given and is taken, or the directory cannot be written.
    """
    recipe = loaded.recipe
    path = make_directory(directory.resolve(), name or recipe.name, exact=name is not None, begun=begun)
    run, kept = Run(path), path / RECIPE
    if kept.exists() and not loaded.source.startswith(kept.read_bytes()):
        raise UserError(f"--name {path.name}: {kept} is another recipe; give another name, or remove {path}")
    kept.write_bytes(loaded.source)
    write_text(path / "recipe.resolved.yaml", resolved_yaml(loaded))
    for folder in FOLDERS:
        (path / folder).mkdir(exist_ok=begun)
    manifest = Manifest(
        id=secrets.token_hex(16),
        name=path.name,
        state="prepared",
        recipe=str(loaded.path.resolve()),
        overrides=loaded.overrides,
        backend=recipe.backend,
        method=recipe.method,
        model=recipe.model.path,
        tuning=recipe.tuning.type,
        created=now(),
        runner=myself(),
        host={"name": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()},
        git=_git(loaded.path.resolve().parent),
        topology=topology,
        parent=parent,
        chosen=loaded.chosen,
    )
    write_typed(path / "run.json", manifest)
    return run


def resolved_yaml(loaded: LoadedRecipe) -> str:
    return dump(loaded.complete())


def make_directory(directory: Path, base: str, *, exact: bool, begun: bool = False) -> Path:
    """An empty directory for a run, as `create` makes it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(1, 100_000):
            path = directory / (base if number == 1 else f"{base}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                if begun and _holds_nothing(path):
                    return path
                if exact:
                    what = "" if (path / "run.json").exists() else ", and is no run: give another name, or remove it"
                    raise UserError(f"--name {base}: {path} is there already{what or '; see `recipe runs`'}") from None
                continue
            return path
    except OSError as error:
        raise UserError(f"--runs-dir {directory}: {error.strerror}") from None
    raise UserError(f"--runs-dir {directory}: no free name for {base}")


def _holds_nothing(path: Path) -> bool:
    """Whether a directory is what a launch makes, or a run that was killed at once, and nothing of anybody else's."""
    if not path.is_dir() or path.is_symlink() or (path / "run.json").exists():
        return False
    own = (RECIPE, "recipe.resolved.yaml", ".lock", ".heartbeat")

    def ours(one: Path) -> bool:
        if one.is_dir():
            return one.name in FOLDERS and not any(one.iterdir())
        return one.name in own or bool(TEMPORARY.fullmatch(one.name))

    return (path / LAUNCH).is_dir() or all(map(ours, path.iterdir()))


def runs(directory: Path) -> Iterator[Run]:
    """The runs of a directory, oldest first; those whose manifest is damaged last.

    Raises:
        UserError: it may not be read.
    """
    try:
        if directory.is_dir():
            os.scandir(directory).close()  # `glob` passes over what may not be read
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}") from None
    found = [Run(p.parent.resolve()) for p in directory.glob("*/run.json")]
    yield from sorted(found, key=lambda run: (_created(run), run.name))


def _created(run: Run) -> str:
    try:
        return run.read().created
    except Damaged:
        return "~"  # after any date


def find(name: str, directory: Path) -> Run:
    """A run by path or by name.

    Raises:
        UserError: there is none.
    """
    for path in (Path(name), directory / name):
        try:
            if (path / "run.json").is_file():
                return Run(path.resolve())
        except (OSError, ValueError):  # no name that a file can have
            break
    known = [path.parent.name for path in directory.glob("*/run.json")]
    raise UserError(f"{name}: no such run in {directory}{did_you_mean(name, known)} (see `recipe runs`)")


def ended(attempt: Attempt, state: State) -> Attempt:
    """The attempt with its end."""
    return replace(attempt, ended=now(), state=state)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def myself() -> Runner:
    """This process."""
    return Runner(pid=os.getpid(), host=platform.node())


def _git(directory: Path) -> Mapping[str, Any] | None:
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
