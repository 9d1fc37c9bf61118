"""What of a recipe's model can be told wrong before anything runs: files that are not there, texts for switches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from recipes.errors import Problem
from recipes.model_files import adapter_problem, adapter_settings
from recipes.paths import HUB_ID, local_path, scheme, template_problem, unset_variable
from recipes.schema import schema, with_defaults
from recipes.yaml_text import Document, Values

BUNDLED = ("bundled:smollm2-135m-instruct",)
SWITCHES = ("yes", "on", "true", "y", "no", "off", "false", "n")  # the first four are on


def model_problems(value: Values, document: Document, root: Path, needed: bool) -> Iterator[Problem]:
    """Of the recipe's section `model`; `needed`: its files must be there."""
    yield from _path_problems(value["model"]["path"], document, root, needed)
    yield from _tokenizer_problems(value, document, root, needed)
    if value["model"].get("adapter_path"):
        yield from _adapter_problems(value, document, root, needed)
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
    if local is None and not HUB_ID.fullmatch(path):
        text = f"{path[:80]!r} is neither a directory here nor a hub id{unset_variable(path)}"
        yield document.problem(("model", "path"), text)
    elif needed and local is not None and not local.is_dir():
        yield document.problem(("model", "path"), f"no such directory: {local}{unset_variable(path)}")
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


def _adapter_problems(value: Values, document: Document, root: Path, needed: bool) -> Iterator[Problem]:
    """An adapter that is trained further is what its own config says; a recipe that says otherwise would be ignored."""
    place, tuning = ("model", "adapter_path"), value.get("tuning", {})
    if tuning.get("type", "lora") != "lora":
        yield document.problem(
            place, "belongs to tuning.type: lora; to train all weights, merge it into its base first"
        )
        return
    if value["method"] == "grpo":
        text = "grpo trains no adapter further: its reference model would be the base without it; merge it first"
        yield document.problem(place, text)
        return
    if not needed:
        return
    directory = root / value["model"]["adapter_path"]
    try:
        own = adapter_settings(directory)
    except ValueError as error:
        yield document.problem(place, str(error))
        return
    given = with_defaults(tuning, schema()["properties"]["tuning"])
    asked = given | {"alpha": given["alpha"] or 2 * given["rank"]}
    for field, has in own.items():
        wanted = asked[field]
        if field == "target_modules":
            if wanted == "all-linear" or sorted(wanted) == sorted(has):
                continue
        elif wanted == has:
            continue
        shown, own_value = json.dumps(wanted), json.dumps(has)
        text = f"{shown} here, and {own_value} in model.adapter_path, which is trained further; say {own_value}"
        text += ", or train on it merged (`recipe run RECIPE --from RUN --merged`)"
        yield document.problem(("tuning", field), text)
