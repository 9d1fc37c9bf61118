"""What of a recipe's model can be told wrong before anything runs: files that are not there, texts for switches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from recipes.errors import Problem
from recipes.model_files import adapter_problem
from recipes.paths import local_path, scheme, template_problem
from recipes.yaml_text import Document, Values

BUNDLED = ("bundled:smollm2-135m-instruct",)
SWITCHES = ("yes", "on", "true", "y", "no", "off", "false", "n")  # the first four are on


def model_problems(value: Values, document: Document, root: Path, needed: bool) -> Iterator[Problem]:
    """Of the recipe's section `model`; `needed`: its files must be there."""
    yield from _path_problems(value["model"]["path"], document, root, needed)
    yield from _tokenizer_problems(value, document, root, needed)
    template = value["model"].get("chat_template")
    for key, given in value["model"].get("chat_template_kwargs", {}).items():
        if isinstance(given, str) and given.strip().lower() in SWITCHES:
            switch = json.dumps(given.strip().lower() in SWITCHES[:4])
            text = f'the text "{given}", which is true to a template whatever it says; write {switch}'
            yield document.problem(("model", "chat_template_kwargs", key), text)
    if template and (text := template_problem(template, root)):
        yield document.problem(("model", "chat_template"), text)


def _path_problems(path: str, document: Document, root: Path, needed: bool) -> Iterator[Problem]:
    if path.startswith("bundled:"):
        if path not in BUNDLED:
            yield document.problem(("model", "path"), f"no such bundled model; allowed: {', '.join(BUNDLED)}")
        return
    local = local_path(path, root)
    if needed and local is not None and not local.is_dir():
        yield document.problem(("model", "path"), f"no such directory: {local}")
    elif needed and local is not None and (text := adapter_problem(local)):
        yield document.problem(("model", "path"), text)


def _tokenizer_problems(value: Values, document: Document, root: Path, needed: bool) -> Iterator[Problem]:
    given = value["model"].get("tokenizer")
    if given is None:
        return
    local = local_path(given, root)
    if value["method"] == "grpo":
        text = "rollouts are made with the model's own tokenizer; take it out, or put it into the model's directory"
        yield document.problem(("model", "tokenizer"), text)
    elif given.startswith("bundled:") or scheme(given):
        yield document.problem(("model", "tokenizer"), f"{given} is neither a directory nor a hub id")
    elif needed and local is not None and not local.is_dir():
        yield document.problem(("model", "tokenizer"), f"no such directory: {local}")
