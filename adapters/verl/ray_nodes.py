"""Ray over the nodes of a GRPO run: its head on node 0, which the others join; inside verl's environment.

They meet at MASTER_ADDR:MASTER_PORT, as torchrun's nodes do. A token of the run's own, in its directory, keeps others
out of this Ray, and it out of theirs.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.verl.grpo import CPUS, OBJECT_STORE

POLL_S, TELL_S = 0.5, 30.0
JOIN_S = 300.0  # the runners have met before: what is slow is the start of Ray alone
GRACE_S = 20.0


class NodesMissing(Exception):
    """Nodes that did not join Ray; the message names them by rank."""


@contextmanager
def token() -> Iterator[None]:
    """The run's token, while its Ray lives; one that a killed attempt has left is taken again."""
    file = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
            stream.write(secrets.token_hex(32))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def head(config: Any, ended: Path) -> Iterator[None]:
    """Ray's head on this node; writes to `ended` whether what was done with it went well (0) or not (1)."""
    host, port = _meeting(config)
    address = _address(host)
    config.ray_kwargs.ray_init.address = f"{address}:{port}"
    flags = ("--head", f"--port={port}", "--include-dashboard=false", f"--node-ip-address={address}")
    with _ray(config, 0, *flags) as process:
        outcome = "1"
        try:
            _wait_until_open(config, process)
            yield
            outcome = "0"
        finally:
            part = ended.with_name(f".{ended.name}")
            part.write_text(outcome, encoding="utf-8")
            part.replace(ended)  # whole, or not there yet


def take_part(config: Any, rank: int, ended: Path) -> None:
    """Lend this node's devices to the run until node 0 has written how it ended.

    Raises:
        SystemExit: 1 where the run has failed, or Ray ended on this node.
    """
    _wait_until_open(config)
    host, port = _meeting(config)
    with _ray(config, rank, f"--address={_address(host)}:{port}") as process:
        while process.poll() is None and not ended.is_file():
            time.sleep(POLL_S)
        if not _appears(ended):
            raise SystemExit(f"node {rank}: Ray ended here, or lost node 0 at {host}:{port}")
    if ended.read_text(encoding="utf-8") != "0":
        raise SystemExit(f"node {rank}: the training failed; node 0's log says why")


def _appears(file: Path) -> bool:
    """Whether a file is there, or comes: shared storage may show it late."""
    deadline = time.monotonic() + GRACE_S
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return file.is_file()


def wait_for_all(nodes: int) -> None:
    """Wait, in a process of this Ray, until all of its nodes are there.

    Raises:
        NodesMissing: after JOIN_S seconds.
    """
    import ray

    started = told = time.monotonic()
    while True:
        here = {name for node in ray.nodes() if node["Alive"] for name in node["Resources"]}
        missing = ", ".join(str(rank) for rank in range(nodes) if _resource(rank) not in here)
        if not missing:
            return
        now = time.monotonic()
        if now - started > JOIN_S:
            raise NodesMissing(f"node {missing} did not join Ray in {JOIN_S:.0f} s: its log says why")
        if now - told > TELL_S:
            told = now
            print(f"waiting for node {missing} to join Ray", flush=True)
        time.sleep(POLL_S)


def _resource(rank: int) -> str:
    return f"recipe_node_{rank}"


def _meeting(config: Any) -> tuple[str, int]:
    host, _, port = config.ray_kwargs.ray_init.address.rpartition(":")
    return host, int(port)


def _address(host: str) -> str:
    """An address that other machines reach too: a machine's own name often means 127.0.1.1 on itself."""
    from ray.util import get_node_ip_address

    address = socket.gethostbyname(host)
    return str(get_node_ip_address()) if address.startswith("127.") else address


def _wait_until_open(config: Any, process: subprocess.Popen[bytes] | None = None) -> None:
    host, port = _meeting(config)
    started = time.monotonic()
    while True:
        try:
            socket.create_connection((_address(host), port), timeout=POLL_S).close()
            return
        except OSError as error:
            if process and process.poll() is not None:
                raise SystemExit(f"Ray's head did not start at {host}:{port}; is the port taken?") from error
            if time.monotonic() - started > JOIN_S:
                raise SystemExit(f"no Ray at {host}:{port} after {JOIN_S:.0f} s: {error}") from error
        time.sleep(POLL_S)


@contextmanager
def _ray(config: Any, rank: int, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """Ray's processes on this node, while it lasts."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *flags),
        f"--num-gpus={config.trainer.n_gpus_per_node}",
        f"--resources={json.dumps({_resource(rank): 1})}",
        f"--temp-dir={directory(config, rank)}",
        *("--min-worker-port=0", "--max-worker-port=0"),  # any free ones: two runs may share a machine
    ]
    if config.trainer.device == "cpu":
        command += [f"--num-cpus={CPUS}", f"--object-store-memory={OBJECT_STORE}"]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()


def directory(config: Any, rank: int) -> Path:
    """Ray's directory on a node: two nodes of a run may share a machine."""
    first = Path(config.ray_kwargs.ray_init._temp_dir)
    return first.with_name(f"{first.name}-{rank}") if rank else first
