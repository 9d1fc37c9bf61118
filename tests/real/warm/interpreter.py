"""An interpreter that has imported its modules and forks for each command that it is handed.

Usage: python -u interpreter.py CHANNEL MODULES ROOT…

CHANNEL is the descriptor of a Unix socket over which the connections of clients come; it ends when that is closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import random
import resource
import runpy
import select
import signal
import socket
import sys
import types
from typing import Any

TOKENIZERS = ("transformers.models.auto.tokenization_auto", "pyarrow", "datasets")
MODELS = {
    "llamafactory": ("llamafactory.train.tuner", "transformers.models.llama.modeling_llama", "peft.tuners.lora.bnb"),
    "verl": ("verl.trainer.sft_trainer", "peft", "torch.distributed.checkpoint.state_dict"),
    "eval-any": ("torch", "transformers.generation", "peft", "safetensors.torch"),
    "eval-lm-any": ("lm_eval", "lm_eval.models.huggingface"),
}


def load(modules: str) -> None:
    """Import what commands of an environment begin with, its directory being named after it."""
    if modules == "tokenizers":
        sys.modules["torch"] = None  # type: ignore[assignment]
        for name in TOKENIZERS:
            if importlib.util.find_spec(name.partition(".")[0]):  # evaluation has no datasets
                importlib.import_module(name)
        del sys.modules["torch"]
        return
    directory = sys.prefix.rpartition("/")[2]
    for name in next(names for environment, names in MODELS.items() if directory.startswith(f"{environment}-")):
        importlib.import_module(name)


def receive(connection: socket.socket) -> dict[str, Any]:
    size = int.from_bytes(_exactly(connection, 4), "little")
    return json.loads(_exactly(connection, size))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError("the client was killed")
        data += more
    return data


def serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for each connection until the channel is closed; returns in the forked process, with what it is to run."""
    while True:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        if not descriptors:
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
            sys.exit()
        if not os.fork():
            channel.close()
            return _keep(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _keep(client: socket.socket) -> dict[str, Any]:
    """Fork the process itself; pass signals on to it and its end back. A client that is killed takes it along."""
    client.sendall(b"y")
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    request = receive(client)
    child = os.fork()
    if not child:
        client.close()
        _become(request, files)
        return request
    for file in files:
        os.close(file)
    ended = os.pidfd_open(child)
    watched = [client.fileno(), ended]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            _, status = os.waitpid(child, 0)
            with contextlib.suppress(OSError):
                client.sendall(status.to_bytes(4, "little"))
            os._exit(0)
        numbers = client.recv(16)
        for number in numbers or [signal.SIGKILL]:
            os.kill(child, number)
        if not numbers:
            watched = [ended]


def _become(request: dict[str, Any], files: list[int]) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    resource.setrlimit(resource.RLIMIT_FSIZE, request["file_size"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


def run(arguments: list[str], env: dict[str, str]) -> None:
    """As `python -m MODULE …` and `python -c CODE …` do."""
    kind, what, *rest = arguments
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    if not env.get("PYTHONSAFEPATH"):
        sys.path.insert(0, os.path.realpath(".") if kind == "-m" else "")
    sys.argv = [kind, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(what, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    del sys.path[0]
    load(sys.argv[2])
    gc.collect()
    gc.freeze()
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    run(asked["arguments"], asked["env"])
