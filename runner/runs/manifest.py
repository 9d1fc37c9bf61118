"""What run.json holds: all that a run's files do not say by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapters.contract import Topology
from runner.data.spec import Accounting

State = Literal["prepared", "running", "succeeded", "failed", "interrupted"]  # crashed is only ever read


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The process that runs, or ran, a run."""

    pid: int
    host: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One start of the backend; `metrics` is its metrics file, relative to the run."""

    number: int
    started: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    metrics: str
    resume_from: int | None
    ended: str = ""
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """GB (10^9 bytes) of tensors on the fullest GPU: as estimated before the training, and as it was."""

    predicted_gb: float | None = None
    peak_gb: float | None = None


@dataclass(frozen=True, kw_only=True)
class Parent:
    """Where a run's first weights come from: another run, the step, and what was taken, with a hash of its content.

    kind: model, all weights; adapter, trained further on its own base; merged, an adapter in its base.
    """

    run: str
    id: str
    step: int | None
    kind: Literal["model", "adapter", "merged"]
    path: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a result follows from, as at the last start: the recipe by leaf, sha256 of the rows by file under data/."""

    recipe: Mapping[str, Any]
    data: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of run.json."""

    id: str  # of this run alone: what the machine that made it knows it by
    name: str
    state: State
    recipe: str
    overrides: tuple[str, ...]
    backend: str
    method: str
    model: str
    tuning: str
    created: str
    runner: Runner
    host: Mapping[str, Any]
    git: Mapping[str, Any] | None
    topology: Topology
    chosen: tuple[str, ...] = ()  # what a field's auto became, in sentences
    attempts: tuple[Attempt, ...] = ()
    reason: str = ""
    started: str = ""
    finished: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # over the lock: name to packages
    data: Accounting | None = None
    training_time_s: float = 0.0
    memory: MemoryUse = field(default_factory=MemoryUse)
    trained_steps: int | None = None  # the training has come to its end, at this step
    ended_early: bool = False
    model_step: int | None = None  # the step that model/ is of
    parent: Parent | None = None
    conditions: Conditions | None = None  # beside topology and versions, which are of the last start too
