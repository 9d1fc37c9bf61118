"""Runs a Python command in a warm interpreter where there is one for it, else as it is.

Usage: python -IS client.py SOCKET PYTHON ARGUMENT…
"""

from __future__ import annotations

import array
import json
import os
import resource
import signal
import socket
import sys

TOKENIZERS, MODELS = "tokenizers", "models"  # what is imported: interpreter.py
# What is run warm, besides the scripts of tests.
WARM = {
    "runner.data.prepare": TOKENIZERS,
    "runner.data.inspect": TOKENIZERS,
    "runner.data.trained": TOKENIZERS,
    "adapters.initial_adapter": MODELS,
    "adapters.llamafactory.train": MODELS,
    "adapters.verl.train": MODELS,
    "adapters.verl.export": MODELS,
    "torch.distributed.run": MODELS,
    "eval.worker": MODELS,
    "eval.engines.chat": MODELS,
    "eval.models.merge": MODELS,
    "eval.models.tokens": MODELS,
    "eval.suites.lm_eval.worker": MODELS,
    "lm_eval": MODELS,
}
ENVIRONMENTS = {TOKENIZERS: ("llamafactory-", "verl-", "toy-", "eval-"),
                MODELS: ("llamafactory-", "verl-", "eval-any-", "eval-lm-any-")}  # fmt: skip
# Variables that nothing reads while it is imported; RECIPE_* are read by our own code alone, and PYTEST_* by none. For
# another value of any other one, an interpreter is started.
OWN = {"PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES", "PYTHONSAFEPATH", "PYTHONUNBUFFERED", "OMP_WAIT_POLICY",
       "TOKENIZERS_PARALLELISM", "DISABLE_VERSION_CHECK", "VERL_FILE_LOGGER_PATH", "RANK", "WORLD_SIZE",
       "MASTER_ADDR", "MASTER_PORT", "NNODES", "NODE_RANK", "PYTHON_EXEC"}  # fmt: skip
OWN_PREFIXES = ("RECIPE_", "PYTEST_", "TORCHELASTIC_", "TORCH_NCCL_", "GROUP_", "ROLE_", "LOCAL_")


def main(address: str, python: str, arguments: list[str]) -> int:
    kind, what = [argument for argument in [*arguments, "", ""] if argument != "-u"][:2]  # which every interpreter has
    modules = WARM.get(what) if kind == "-m" else MODELS if kind == "-c" else None
    environment = "".join(python.split("/")[-3:-2])  # of …/NAME/bin/python
    if not modules or not environment.startswith(ENVIRONMENTS[modules]):
        os.execvp(python, [python, *arguments])
    own = {key for key in os.environ if key in OWN or key.startswith(OWN_PREFIXES)}
    if os.pathsep not in os.environ.get("PYTHONPATH", "") and "VERL_USE_EXTERNAL_MODULES" not in os.environ:
        own.add("PYTHONPATH")  # our packages alone, or none
    shared = {key: value for key, value in os.environ.items() if key not in own}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        send(server, {"python": python, "modules": modules, "env": shared})
        if server.recv(1) != b"y":  # it has been handed to the interpreter
            return 70
        rights = array.array("i", [0, 1, 2])
        server.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        size = resource.getrlimit(resource.RLIMIT_FSIZE)
        # torchrun starts its workers by PYTHON_EXEC, which server.py has written.
        env = {**os.environ, "PYTHON_EXEC": address.removesuffix("socket") + "python", "RECIPE_PYTHON": python}
        cwd = os.path.realpath(".")
        send(server, {"arguments": arguments[arguments.index(kind) :], "env": env, "cwd": cwd, "file_size": size})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        answer = server.recv(4)
    if len(answer) < 4:
        return 70
    status = int.from_bytes(answer, "little")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return os.waitstatus_to_exitcode(status)


def send(to: socket.socket, message: dict[str, object]) -> None:
    data = json.dumps(message).encode()
    to.sendall(len(data).to_bytes(4, "little") + data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
