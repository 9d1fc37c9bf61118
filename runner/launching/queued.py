"""What was launched and waits or runs somewhere: the records that launches leave, and what their places say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recipes import UserError
from recipes.typed import read_typed, to_json
from runner.launching import PLACES, place
from runner.launching.contract import Launched, Say
from runner.runs.rundir import LAUNCH, Run

RECORD = "launch.json"


@dataclass(frozen=True)
class Placed:
    """A launched run. `place`: its state there, such as pending; empty where it has ended, or nobody can be asked."""

    run: Run
    launched: Launched
    place: str

    @property
    def begun(self) -> bool:
        return (self.run.path / "run.json").is_file()

    def state(self, own: str = "") -> str:
        """Its state; `own`: that of the run directory."""
        if self.place == "running" and own:
            # Where it works its own state tells more; what that says of the last end does not hold any more.
            return own if own in ("running", "prepared", "succeeded", "failed") else "starting"
        return self.place or own or ("ended" if self.launched.on == "slurm" else "launched")

    def row(self) -> tuple[str, ...]:
        """The first columns of the table of runs, of one that has not begun."""
        return (self.run.name, self.state(), self.launched.backend, self.launched.method, self.launched.tuning)

    def as_json(self) -> dict[str, object]:
        launched: object = to_json(self.launched)
        return {"name": self.run.name, "state": self.state(), "path": str(self.run.path), "launch": launched}

    def __str__(self) -> str:
        number = f" as {self.launched.id}" if self.launched.id else ""
        return f"{self.run.name}: {self.state()}, launched on {self.launched.on}{number}; see {self.run.path / LAUNCH}"


def queued(directory: Path, say: Say, *, only: str | None = None) -> dict[str, Placed]:
    """The launched runs of a directory by name; records that cannot be read are left out, with a word."""
    found: dict[str, Launched] = {}
    for file in sorted(directory.glob(f"*/{LAUNCH}/{RECORD}")):
        name = file.parent.parent.name
        if only not in (None, name):
            continue
        try:
            found[name] = read_typed(Launched, file)
        except (OSError, ValueError) as error:
            say(f"left out: {file}: {error}")
    states: dict[str, str] = {}
    for on in PLACES:
        states |= _states(on, {name: (directory / name, one) for name, one in found.items() if one.on == on}, say)
    return {name: Placed(Run((directory / name).resolve()), one, states.get(name, "")) for name, one in found.items()}


def check_gone(run: Run, say: Say) -> None:
    """Refuse to touch a run whose job waits or runs somewhere.

    Raises:
        UserError: names the job.
    """
    placed = queued(run.path.parent, say, only=run.name).get(run.name)
    if placed and placed.place:
        raise UserError(f"{run.name} is {placed.state()} as job {placed.launched.id}: end it first, or wait")


def _states(on: str, launched: Mapping[str, tuple[Path, Launched]], say: Say) -> Mapping[str, str]:
    return place(on).states(launched, say) if launched else {}
