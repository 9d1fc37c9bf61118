"""What may be done with a run that somebody else made: its files are data, and what it asks for is asked again.

A run that this user's machine made is known by its id and the hash of its recipe, kept outside of the run. Any other
was received: before a verb runs code, sends a key, or unpickles what such a run names, its reader has to agree.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator

from recipes import Recipe, UserError
from recipes.files import write_text
from recipes.suites import task_file
from runner.files import cache_directory
from runner.runs.rundir import Run

SCORING = ("resume", "eval", "export")  # verbs that score a run's model as its recipe says


def remember(run: Run) -> None:
    """Keep that this run, with this recipe, is the user's own."""
    write_text(cache_directory() / "own-runs" / run.read().id, _digest(run))


def is_own(run: Run) -> bool:
    """Whether this user's machine made the run, or its user has agreed to it, and its recipe is as it was."""
    name = run.read().id
    known = cache_directory() / "own-runs" / name
    return name.isalnum() and known.is_file() and known.read_text(encoding="utf-8") == _digest(run)


def _digest(run: Run) -> str:
    return hashlib.sha256((run.path / "recipe.resolved.yaml").read_bytes()).hexdigest()


def check_trusted(run: Run, recipe: Recipe, verb: str, *, trusted: bool) -> None:
    """Refuse to do what a received run asks for and its reader has not agreed to.

    Raises:
        UserError: names each thing, and the option that agrees to all of them, once.
    """
    asked = [] if is_own(run) else list(_asked(recipe, verb))
    if not asked:
        return
    if not trusted:
        raise UserError(
            f"{run.name} was not made by this user on this machine, and `recipe {verb}` would",
            *(f"  {text}" for text in asked),
            "if you trust who made it, repeat the command with --trust-run",
        )
    remember(run)


def _asked(recipe: Recipe, verb: str) -> Iterator[str]:
    """What a verb does for a recipe that a stranger could use."""
    if recipe.model.trust_remote_code:
        yield f"run Python code that comes with the model {recipe.model.path} (model.trust_remote_code)"
    judge = recipe.eval.judge
    if verb in SCORING and judge.base_url:
        key = f", with the value of the variable {judge.key_env}" if judge.key_env else ""
        yield f"send replies to {judge.base_url}{key} (eval.judge)"
    for measure in recipe.eval.measures if verb in SCORING else ():
        if measure.path:
            yield f"run Python code of {measure.path} (eval.measures)"
    if verb in SCORING and recipe.eval.allow_code:
        yield "run code that the model writes, in a sandbox (eval.allow_code)"
    files = filter(None, map(task_file, recipe.eval.suites)) if verb in SCORING else ()
    for path in files:
        yield f"take the task file {path}, which can run Python code (eval.suites)"
    if verb != "resume":
        return
    for reward in recipe.grpo.rewards:
        if reward.path:
            yield f"run Python code of {reward.path} (grpo.rewards)"
    if recipe.backend_options:
        yield f"give {recipe.backend} native options: {', '.join(recipe.backend_options)} (backend_options)"
    if recipe.backend == "verl":
        yield "load verl's checkpoints, which are pickles"


def check_links(run: Run) -> None:
    """Refuse to write into a run whose files lead elsewhere.

    Raises:
        UserError: names a link that leaves the run, or a file that is none (a pipe, a device).
    """
    root = run.path.resolve()
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(directory, name)  # noqa: PTH118 - of thousands of files: no Path for each
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                target = os.path.realpath(path)
                if os.path.commonpath([root, target]) != str(root):
                    text = f"{path}: a link to {target}, outside of the run: nothing is written through it"
                    raise UserError(f"{text}; put the files themselves there")
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserError(f"{path}: expected a file or a directory, got a pipe, socket or device")
