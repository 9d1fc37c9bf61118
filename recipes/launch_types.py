"""Where and on what a recipe is launched, as frozen types; nothing that is learned follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Slurm:
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    time: str | None
    cpus: int | None
    memory: str | None
    sbatch: tuple[str, ...]
    srun: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ssh:
    hosts: tuple[str, ...]  # the first is node 0
    directory: str | None
    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Skypilot:
    infra: str | None
    accelerator: str | None
    image: str | None
    spot: bool
    storage: str | None
    setup: str | None
    task: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Launch:
    on: Literal["slurm", "ssh", "skypilot"] | None
    nodes: int | None
    gpus: int  # of each node
    command: str | None
    env: Mapping[str, str]
    slurm: Slurm
    ssh: Ssh
    skypilot: Skypilot
