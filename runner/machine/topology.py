"""The machines of a run, from the environment variables that users of both backends know."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from adapters.contract import Topology
from recipes import UserError

NO_GPU_OF_SLURM = "NoDevFiles"


def topology(env: Mapping[str, str] = os.environ, without: Collection[str] = ()) -> Topology:
    """GPUs, nodes and rendezvous; `without` are ids of GPUs that are left to something else.

    N_GPUS: GPUs per node (default: those seen; 0 forces the CPU). NPROC_PER_NODE: the same, or the number of CPU
    processes where there is no GPU. NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT: as torchrun knows them; inside a SLURM
    job from its own variables.

    Raises:
        UserError: a variable with a value that it cannot have, or two that do not go together.
    """
    devices = [device for device in visible_gpus(env) if device not in without]
    processes = _number(env, "NPROC_PER_NODE", 0)
    gpus = _number(env, "N_GPUS", min(processes, len(devices)) if processes else len(devices))
    if gpus and processes and env.get("N_GPUS") and gpus != processes:
        raise UserError(f"N_GPUS={gpus} with NPROC_PER_NODE={processes}: each GPU has one process; give one of the two")
    nodes = _number(env, "NNODES", _number(env, "SLURM_NNODES", 1))
    rank = _number(env, "NODE_RANK", _number(env, "SLURM_NODEID", 0) if nodes > 1 else 0)
    if nodes < 1:
        raise UserError(f"environment variable NNODES={nodes}; allowed: 1 or more")
    if rank >= nodes:
        raise UserError(f"NODE_RANK={rank} with NNODES={nodes}; allowed: 0 to {nodes - 1}")
    head = env.get("MASTER_ADDR", "")
    if head and (not head.isascii() or not re.fullmatch(r"[\w.-]+|[\w.%]*:[\w.%]*:[\w.:%]*", head)):
        text = "allowed: a host's name or address alone; the port is MASTER_PORT"
        raise UserError(f"environment variable MASTER_ADDR={head!r}; {text}")
    if nodes > 1 and not (head or env.get("SLURM_JOB_NODELIST")):
        raise UserError("NNODES is above 1, so every node needs MASTER_ADDR: the address of the node of rank 0")
    return Topology(
        gpus=gpus,
        processes=gpus or max(processes, 1),
        nodes=nodes,
        node_rank=rank,
        master_addr=head or (_slurm_head(env) if nodes > 1 else "127.0.0.1"),
        master_port=_port(env),
        devices=tuple(devices[:gpus]),
    )


def check_present(wanted: Topology) -> None:
    """Raise UserError where fewer GPUs are here than the topology asks for: one can plan so, not run."""
    seen = len(wanted.devices)
    if wanted.gpus > seen:
        raise UserError(f"N_GPUS={wanted.gpus}, but {seen} GPUs are free here; `recipe plan` works all the same")


def visible_gpus(env: Mapping[str, str] = os.environ) -> list[str]:
    """Ids of the NVIDIA GPUs that a process here would see, without importing torch."""
    chosen = env.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        named = [part.strip() for part in chosen.split(",") if part.strip() not in ("", "-1", NO_GPU_OF_SLURM)]
        if odd := [name for name in named if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", name)]:
            text = "allowed: numbers or ids of GPUs (GPU-…, MIG-…), with commas between them"
            raise UserError(f"environment variable CUDA_VISIBLE_DEVICES={chosen!r} names {odd[0]!r}; {text}")
        if len(set(named)) < len(named):  # CUDA shows none at all then
            raise UserError(f"environment variable CUDA_VISIBLE_DEVICES={chosen!r} names a device twice")
        return named
    listed = Path("/proc/driver/nvidia/gpus")
    if listed.is_dir():
        return [str(n) for n, _ in enumerate(listed.iterdir())]
    return [str(n) for n, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))]


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise UserError(f"environment variable {name}={text!r}; allowed: a whole number, at least 0")
    return int(text)


def _port(env: Mapping[str, str]) -> int:
    port = _number(env, "MASTER_PORT", 29500)
    if not 1 <= port <= 65535:
        raise UserError(f"environment variable MASTER_PORT={port}; allowed: 1 to 65535")
    return port


def _slurm_head(env: Mapping[str, str]) -> str:
    nodes = env["SLURM_JOB_NODELIST"]
    try:
        shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise UserError(f"cannot tell the first host of SLURM_JOB_NODELIST={nodes}; set MASTER_ADDR") from None
    return shown.stdout.split()[0]
