"""What a place to launch on is: it makes files of a recipe and a run's directory, and starts them.

Inside of every place the same command runs on each node, and may run again after the place has taken a machine away:
`recipe run … --resume` begins the run the first time, and goes on with it afterwards. torchrun and Ray start under it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from adapters.contract import Topology
from recipes import LoadedRecipe
from recipes.launch_types import Launch
from runner.runs.rundir import LAUNCH

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is launched.

    run: the run's directory, absolute, and the same on every node (under skypilot: here).
    machines: of node 0.
    flags: of `recipe run`, such as --no-eval. began: those that say which run's weights it begins with.
    """

    loaded: LoadedRecipe
    run: Path
    machines: Topology
    flags: tuple[str, ...] = ()
    began: tuple[str, ...] = ()

    @property
    def launch(self) -> Launch:
        return self.loaded.recipe.launch

    @property
    def directory(self) -> Path:
        """Of what a launch leaves in a run."""
        return self.run / LAUNCH

    @property
    def recipe_file(self) -> Path:
        """The recipe as it was when it was launched: a later edit must not change what waits in a queue."""
        return self.directory / f"{self.run.name}.yaml"

    def variables(self) -> dict[str, str]:
        """What `recipe run` reads of its machines, apart from rank and address, and the recipe's own."""
        return {"N_GPUS": str(self.machines.gpus), **self.launch.env}

    def command(self, called: str, recipe: str, runs_dir: str) -> str:
        """The shell text that each node runs; `recipe` and `runs_dir` as they are called there, quoted already."""
        # Whoever launches it made the run, or has agreed to it; on another machine nothing else would say so.
        words = ["--name", self.run.name, "--resume", "--trust-run", *self.began, *self.flags]
        return f"{called} run {recipe} --runs-dir {runs_dir} {shlex.join(words)}"

    def command_here(self) -> str:
        """The same where paths and installation are those of this machine."""
        called = self.launch.command or shlex.join(this_installation())
        return self.command(called, shlex.quote(str(self.recipe_file)), shlex.quote(str(self.run.parent)))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a place makes of a request; pure.

    files: text by name, written to the run's `launch/`; the first is the one to read.
    commands: what starts it, one after the other (under ssh: all at once, one a node).
    """

    files: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Launched:
    """The content of `launch/launch.json`: what was launched, and what the place knows it by; `began` as of Request."""

    on: str
    id: str
    recipe: str
    overrides: tuple[str, ...]
    backend: str
    method: str
    tuning: str
    created: str
    began: tuple[str, ...] = ()


class Place(Protocol):
    """The functions of a module of PLACES."""

    def job(self, request: Request) -> Job:
        """The files and commands of a checked request; nothing is read or started.

        Raises:
            UserError: something of it cannot be said there.
        """

    def start(self, request: Request, job: Job, say: Say) -> str:
        """Start it, and return what the place knows it by; ssh returns only when all have ended.

        Raises:
            UserError, Failure: the place's program is not there, or refuses.
        """

    def states(self, launched: Mapping[str, tuple[Path, Launched]], say: Say) -> Mapping[str, str]:
        """By the run's name, what the place says of those that have not ended: pending, running, preempted, …."""


def this_installation() -> Sequence[str]:
    """The words that call this installation's `recipe` from anywhere."""
    script = Path(sys.executable).with_name("recipe")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "runner.cli"]
