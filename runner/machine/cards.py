"""The GPUs of this machine by name and memory, as their driver tells them: no torch is imported for it."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from dataclasses import dataclass

WAIT_S = 30


@dataclass(frozen=True, kw_only=True)
class Card:
    """One GPU: its name by the driver, and its memory in bytes."""

    name: str
    memory: int


def cards(devices: Collection[str]) -> list[Card]:
    """The NVIDIA GPUs of these ids (indices, or UUIDs as CUDA_VISIBLE_DEVICES has them); empty where none is told."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=WAIT_S)
    except (OSError, subprocess.SubprocessError):  # no driver, or one that does not answer: nothing is known then
        return []
    found = []
    for line in done.stdout.splitlines():
        index, uuid, name, mebibytes = (part.strip() for part in line.split(","))
        if (index in devices or any(uuid.startswith(one) for one in devices)) and mebibytes.isdigit():
            found.append(Card(name=name, memory=int(mebibytes) * 2**20))
    return found
