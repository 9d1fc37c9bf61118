"""Where a run can be launched: each place is a module with the functions of `Place` (contract.py)."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from runner.launching.contract import Place

PLACES = {
    "slurm": "runner.launching.slurm",
    "ssh": "runner.launching.ssh",
    "skypilot": "runner.launching.skypilot",
}


def place(name: str) -> Place:
    """A place of PLACES, imported when it is asked for."""
    return cast(Place, import_module(PLACES[name]))
