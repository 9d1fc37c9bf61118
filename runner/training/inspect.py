"""Has rows looked at as training sees them: in the backend's environment, by the preparation that training uses."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from recipes import LoadedRecipe, Problem, UserError, remote
from recipes.data_files import there
from recipes.errors import did_you_mean
from recipes.files import read_json
from recipes.methods import METHODS
from recipes.paths import hub_name, local_path, scheme
from recipes.schema import schema, with_defaults
from recipes.typed import from_json, read_typed, write_typed
from recipes.types import Data
from runner.data.check import check, method_of
from runner.data.inspected import Checked, InspectSpec, Preview
from runner.data.read import BadData
from runner.data.spec import PrepareSpec, source_of
from runner.failure import Failure
from runner.files import code_directory
from runner.machine import bundled, diagnose, environments, process
from runner.machine.environments import environment
from runner.machine.process import clean_environment
from runner.training.planning import machines_of
from runner.training.prepare import specification

T = TypeVar("T", Preview, Checked)
Say = Callable[[str], None]


def preview_recipe(loaded: LoadedRecipe, row: int, env: str, say: Say, *, diff: bool = False) -> Preview:
    """A training row of a recipe, from 1, as it is trained on; `diff`: and as a model would be asked for its replies.

    Raises:
        UserError: there is none, rows before it end the reading, or `diff` where the method learns no replies.
    """
    rows = METHODS[loaded.recipe.method].rows
    if diff and not (rows.chat and rows.reply):
        having = ", ".join(method.name for method in METHODS.values() if method.rows.chat and method.rows.reply)
        raise UserError(
            f"--diff compares what stands before replies, and {loaded.recipe.method} has none; it is for {having}"
        )
    return _asked(Preview, _ready(loaded, env, say), loaded_spec(loaded), row, 0, diff=diff)


def check_recipe(loaded: LoadedRecipe, shown: int, env: str, say: Say) -> Checked:
    """A check of a recipe's rows, with their tokens."""
    return _asked(Checked, _ready(loaded, env, say), loaded_spec(loaded), 0, shown)


def check_file(path: str, model: str | None, shown: int, say: Say) -> Checked:
    """A check of the rows of a file; with a model also of their tokens, else by this Python alone.

    Raises:
        UserError: it cannot be read here.
    """
    if not model:
        try:
            return check(file_spec(path), None, shown)
        except ModuleNotFoundError:
            text = "parquet, Arrow, .zst and stores are read in a backend's environment; give --model"
            raise UserError(f"{path}: {text}, whose tokenizer is loaded there") from None
    _check_there(path)
    python = environments.ensure(environment("llamafactory", "cpu"), say)
    if model.startswith("bundled:"):
        bundled.ensure(python, say)
        where = bundled.located(model)
    else:
        where = str(local_path(model, Path.cwd()) or model)
    return _asked(Checked, python, file_spec(path, where), 0, shown, told_by_rows=True)


def _check_there(path: str) -> None:
    if not path or not (scheme(path) or hub_name(path) or _there(Path(path))):
        above = Path(path).parent
        near = did_you_mean(Path(path).name, [each.name for each in above.iterdir()]) if above.is_dir() else ""
        raise UserError(f"{path or repr(path)}: no such file or directory{near}")
    if scheme(path) and not hub_name(path) and (problem := remote.problem(path)):
        raise UserError(problem)


def file_spec(path: str, model: str = "") -> PrepareSpec:
    """A preparation with the defaults of a recipe.

    Its method is told from the first row here; with a model by the child that has its tokenizer, which reads parquet
    too and works in another directory.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    _check_there(path)
    if model:
        method, path = "sft", str(local_path(path, Path.cwd()) or path)
    else:
        try:
            method = method_of(source_of(path))
        except BadData as error:
            raise UserError(str(error)) from None
    given = {"train": [{"path": path}]}
    return PrepareSpec(
        method=method,
        model={
            "path": model,
            "revision": None,
            "trust_remote_code": False,
            "tokenizer": None,
            "add_tokens": [],
            "chat_template": None,
            "chat_template_kwargs": {},
        },
        data=from_json(Data, with_defaults(given, schema()["properties"]["data"])),
        max_length=1,
        directory=Path(),
    )


def _there(path: Path) -> bool:
    try:
        return there(path)
    except OSError as error:  # too long a name, no right to look
        raise UserError(f"{str(path)[:80]}: {error.strerror}") from None


def loaded_spec(loaded: LoadedRecipe) -> PrepareSpec:
    """The preparation that a run of the recipe would have."""
    return specification(loaded.recipe, bundled.located(loaded.recipe.model.path), Path())


def _ready(loaded: LoadedRecipe, env: str, say: Say) -> Path:
    from runner.training.train import Options, ready_python

    return ready_python(loaded.recipe, machines_of(loaded), Options(runs_dir=Path(), env=env, say=say))


def _asked(
    kind: type[T],
    python: Path,
    spec: PrepareSpec,
    row: int,
    shown: int,
    *,
    diff: bool = False,
    told_by_rows: bool = False,
) -> T:
    with tempfile.TemporaryDirectory(prefix="recipe-data-") as name, process.signals_raise():
        directory = Path(name)
        target, log = directory / "found.json", directory / "inspect.log"
        told = InspectSpec(
            prepare=replace(spec, directory=directory),
            row=row,
            shown=shown,
            target=target,
            diff=diff,
            told_by_rows=told_by_rows,
        )
        write_typed(directory / "spec.json", told)
        code = process.run(
            [str(python), "-m", "runner.data.inspect", str(directory / "spec.json")],
            cwd=directory,
            env=clean_environment({"PYTHONPATH": str(code_directory()), "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}),
            log=log,
            mark=f"data-{os.getpid()}",
        )
        problems = directory / "problems.json"
        if code == 2 and problems.is_file():
            raise UserError(*(Problem(text=text) for text in read_json(problems)))
        if code or not target.is_file():
            last = diagnose.tail(log)
            raise Failure("looking at the data", cause=diagnose.cause(last, code), tail=last)
        return read_typed(kind, target)
