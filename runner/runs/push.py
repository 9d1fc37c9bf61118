"""`recipe push`: a run's model on the Hub with a card, and nothing else of the run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.spec import Push
from recipes import UserError
from recipes.files import read_json, write_text
from runner.machine import environments
from runner.machine.environments import environment
from runner.machine.module import ask
from runner.machine.secrets import redact, secrets
from runner.runs.card import public_card
from runner.runs.merge import is_merged
from runner.runs.rundir import Run
from runner.runs.trust import check_links

# What a model consists of. Optimizer states, pickles (which run code where they are loaded) and logs are none of it.
OF_A_MODEL = re.compile(
    r"(.+\.safetensors(\.index\.json)?|(adapter_|generation_)?config\.json|chat_template\.jinja|"
    r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|merges\.txt|.+\.model)"
)
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a model is pushed to, and how.

    merged: the merged model in place of the adapter. license: as the Hub names it.
    """

    repository: str
    private: bool = False
    revision: str | None = None
    merged: bool = False
    license: str | None = None


@dataclass(frozen=True, kw_only=True)
class Content:
    """What would be pushed: files by name, the card's text, and what lies beside them and stays here."""

    files: dict[str, Path]
    card: str
    left_out: tuple[str, ...]


def content(run: Run, where: Where) -> Content:
    """What a run's model consists of, with its card.

    Raises:
        UserError: a run that has not succeeded, no weights, nothing merged, or no such name of a repository.
    """
    check_links(run)
    if not REPOSITORY.fullmatch(where.repository):
        raise UserError(f"{where.repository!r} is no repository of the Hub: write it as USER/NAME")
    if run.state() != "succeeded":
        raise UserError(f"{run.name} has state {run.state()}: only a run that succeeded can be pushed")
    directory = run.path / "merged" if where.merged else run.model
    if where.merged and not is_merged(directory, run.model):
        what = "was made of another adapter than this run's; remove it, and" if directory.is_dir() else "is not there;"
        raise UserError(f"{directory} {what} make it with `recipe merge {run.name}`")
    below = sorted(file for file in directory.rglob("*") if file.is_file() and not file.is_symlink())
    found = {str(file.relative_to(directory)): file for file in below}
    files = {name: file for name, file in found.items() if OF_A_MODEL.fullmatch(name) and file.parent == directory}
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{directory} holds no weights as *.safetensors")
    card = redact(public_card(run, directory, where.repository, where.license), secrets(os.environ))
    left_out = tuple(name for name in found if name not in files)
    return Content(files=files, card=card, left_out=left_out)


def push(run: Run, where: Where, what: Content, say: Callable[[str], None]) -> str:
    """Push it; returns the address of the commit.

    Raises:
        Failure: the Hub did not take it.
    """
    python = environments.ensure(environment("eval", "cpu"), say)
    work = run.path / "logs"
    write_text(work / "card.md", what.card)
    spec = Push(
        repository=where.repository,
        private=where.private,
        revision=where.revision,
        files={**{name: str(path) for name, path in what.files.items()}, CARD: str(work / "card.md")},
        message=f"{run.name}, by recipe-runner",
        target=str(work / "pushed.json"),
    )
    ask(python, "eval.models.push", spec, work, "the push", run.mark("push"))
    return str(read_json(work / "pushed.json"))
