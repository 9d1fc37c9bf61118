"""Runs the workers of an evaluation, each in its environment: ours, and that of lm-evaluation-harness."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from adapters.native import CPU_ENV
from eval.spec import Spec
from recipes import UserError
from recipes.suites import LM_EVAL
from recipes.typed import write_typed
from runner.failure import Failure
from runner.files import NewLines, code_directory
from runner.machine import bundled, diagnose, environments, process
from runner.machine.environments import environment
from runner.machine.hub import offline_if_unreachable, taken
from runner.machine.process import clean_environment
from runner.machine.topology import topology


def run_workers(
    spec: Spec,
    output: Path,
    mark: str,
    say: Callable[[str], None],
    devices: Sequence[str] = (),
    *,
    check: bool = False,
) -> None:
    """Run a specification; `check`: only read the data that it names.

    Raises:
        UserError: something that it names is not there, or malformed.
        Failure: a worker failed.
    """
    if not check:
        say(f"scoring {', '.join(spec.suites)}")
    paths = [path for model in spec.models for path in (model.path, model.base) if path]
    offline_if_unreachable(taken(paths, spec.suites, spec.data), say)
    spec = replace(spec, progress=sys.stderr.isatty())
    own = tuple(suite for suite in spec.suites if not suite.startswith(LM_EVAL))
    others = tuple(suite for suite in spec.suites if suite.startswith(LM_EVAL))
    vllm = spec.engine == "vllm"
    options = ["--check"] if check else []
    if own:
        name = environments.VLLM if vllm else "eval"
        _run("eval.worker", name, replace(spec, suites=own), output / "spec.json", mark, say, devices, options)
    if others:
        name = environments.LM_VLLM if vllm else environments.LM
        options += ["--add"] if own and not check else []
        asked = replace(spec, suites=others)
        _run("eval.suites.lm_eval.worker", name, asked, output / "spec_lm_eval.json", mark, say, devices, options)


def _run(
    module: str,
    name: str,
    spec: Spec,
    path: Path,
    mark: str,
    say: Callable[[str], None],
    devices: Sequence[str],
    options: Sequence[str],
) -> None:
    python = environments.ensure(environment(name, topology().device), say)
    if any("bundled" in model.path for model in spec.models):
        bundled.ensure(python, say)
    write_typed(path, spec)
    log = path.with_name("eval.log")
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
    own = {"PYTHONPATH": str(code_directory()), "PYTHONUNBUFFERED": "1", **CPU_ENV, **chosen}
    code = process.run(
        [str(python), "-m", module, str(path), *options],
        cwd=path.parent,
        env=clean_environment(own, needed=[spec.judge.key_env] if spec.judge and spec.judge.key_env else []),
        log=log,
        mark=mark,
        poll=_follow(log, say),
    )
    if code == 2:
        raise UserError(*(diagnose.tail(log, 3).splitlines()))
    if code:
        last = diagnose.tail(log)
        raise Failure("the evaluation", cause=diagnose.cause(last, code), tail=last, log=log)


def _follow(log: Path, say: Callable[[str], None]) -> Callable[[], None]:
    """Passes the worker's plain progress lines on, from now."""
    new = NewLines(log, log.stat().st_size if log.is_file() else 0)

    def poll() -> None:
        for line in new():
            if line.startswith("eval: "):
                say(f"  {line.removeprefix('eval: ')}")

    return poll
