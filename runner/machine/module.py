"""Asks a module of ours, in an environment, by a specification in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes import UserError
from recipes.typed import write_typed
from runner.failure import Failure
from runner.files import code_directory
from runner.machine import diagnose, process
from runner.machine.process import clean_environment


def ask(python: Path, module: str, spec: Any, logs: Path, what: str, mark: str, *, refuses: bool = False) -> None:
    """Run `python -m MODULE SPEC.json` to its end, or to ours.

    Args:
        python: of the environment.
        module: such as eval.models.merge.
        spec: written as logs/NAME.json, NAME being the module's last part; what it says goes to NAME.log beside it.
        what: it does, for the error.
        mark: by which its processes are found.
        refuses: whether exit code 2 means that what it was given will not do, and its last line says why.

    Raises:
        UserError: it refused.
        Failure: it ended with another exit code than 0; with the end of its log.
    """
    name = module.rpartition(".")[2]
    log, file = logs / f"{name}.log", logs / f"{name}.json"
    write_typed(file, spec)
    log.unlink(missing_ok=True)
    with process.signals_raise():
        command, env = [str(python), "-m", module, str(file)], clean_environment({"PYTHONPATH": str(code_directory())})
        code = process.run(command, cwd=logs, env=env, log=log, mark=mark)
    if code == 2 and refuses:
        raise UserError(diagnose.tail(log, 1))
    if code:
        last = diagnose.tail(log)
        raise Failure(what, cause=diagnose.cause(last, code), tail=last, log=log)
