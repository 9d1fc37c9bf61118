"""One backend each; nothing outside an adapter knows its backend's keys."""

from __future__ import annotations

import importlib
from typing import cast

from adapters.contract import Backend

BACKENDS = {"llamafactory": "adapters.llamafactory", "verl": "adapters.verl"}


def backend(name: str) -> Backend:
    """The adapter of a backend, imported when it is asked for."""
    return cast(Backend, importlib.import_module(BACKENDS[name]))
