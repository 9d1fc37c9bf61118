"""A foreign configuration as a recipe: which tool's it is, what becomes of its keys, and the recipe's text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from adapters import backend
from adapters.contract import Topology
from recipes import UserError, load_text, schema
from recipes.checks import SECRET
from recipes.errors import Problem, did_you_mean
from recipes.paths import anchored
from recipes.secret import HIDDEN, hide
from recipes.yaml_text import dump, parse
from runner.imports import axolotl, llamafactory, torchtune, verl
from runner.imports.taken import NO_FIELD, Entry, NoPlace, Taken

TOOLS: Mapping[str, ModuleType] = {
    "llamafactory": llamafactory,
    "axolotl": axolotl,
    "verl": verl,
    "torchtune": torchtune,
}
# A key that only this tool's files have.
_TELLING = {
    "llamafactory": ("model_name_or_path", "finetuning_type", "dataset_dir"),
    "axolotl": ("base_model", "sequence_len", "micro_batch_size"),
    "verl": ("actor_rollout_ref", "trainer"),
    "torchtune": ("checkpointer", "model"),
}
_ORDER = tuple(schema.schema()["properties"])
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Imported:
    """A recipe made of a foreign configuration; `problems` are what it needs a person for."""

    tool: str
    text: str
    entries: tuple[Entry, ...]
    problems: tuple[Problem | str, ...]


def import_file(file: Path, gpus: int, tool: str | None = None, target: Path | None = None) -> Imported:
    """Read a YAML file, or a shell script or text with a verl command line.

    Args:
        gpus: of all nodes, which the global batch size depends on.
        tool: whose it is, where its keys do not tell.
        target: where the recipe will lie; paths are relative to its directory, or absolute where that is another.

    Raises:
        UserError: it cannot be read, or is no configuration of a tool that is known.
    """
    try:
        source = file.read_bytes()
    except (OSError, ValueError) as error:  # a NUL in its name
        raise UserError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    given, found = _given(source, file)
    tool = tool or found
    if tool is None:
        raise UserError(
            f"{file}: its keys are not those of {', '.join(TOOLS)}"
            f"{did_you_mean(next(iter(given), ''), [key for keys in _TELLING.values() for key in keys])}; "
            "say whose it is with --from"
        )
    try:
        taken: Taken = TOOLS[tool].read(given, file.absolute().parent, gpus)
    except NoPlace as error:
        raise UserError(f"{file}: {error}") from None
    except UserError as error:
        raise UserError(*(f"{file}: {problem}" for problem in error.problems)) from None
    name = _NAME.sub("-", file.stem).strip("-.") or "imported"
    values = _ordered({"name": name, "description": f"from {file.name} of {tool}", **taken.recipe})
    if target and target.absolute().parent != file.absolute().parent:
        values = anchored((), values, file.absolute().parent)
    problems = _rest(taken, values, tool, max(gpus, _gpus(taken)))
    entries = tuple(sorted(taken.entries, key=lambda entry: entry.status == "no place"))
    return Imported(tool, _text(values, entries, file, tool), entries, problems)


def _given(source: bytes, file: Path) -> tuple[dict[str, Any], str | None]:
    """The keys of a file, and whose they are."""
    text = source.decode("utf-8", errors="replace")
    if any(trainer in text for trainer in verl.TRAINERS) and file.suffix.lower() not in (".yaml", ".yml"):
        return verl.overrides(text), "verl"
    value = parse(source, str(file)).value
    if not isinstance(value, dict):
        raise UserError(f"{file}: holds no keys; allowed: a file of YAML or JSON, or a script with a command of verl")
    if {"backend", "method"} <= value.keys():
        raise UserError(f"{file}: is a recipe already, by its backend and method; `recipe validate` checks it")
    value = _interpolated(_as_yaml_1_1(value))
    scores = {tool: sum(key in value for key in keys) for tool, keys in _TELLING.items()}
    best = max(scores, key=lambda tool: scores[tool])
    if "_component_" in text:
        best = "torchtune"
    elif any("." in str(key) for key in value) or ("optim" in value and "engine" in value):
        best = "verl"
    return value, best if scores[best] or best == "verl" else None


_WORDS = {word: at < 2 for at, word in enumerate(("yes", "on", "no", "off"))}
_WORDS |= {form: value for word, value in _WORDS.items() for form in (word.capitalize(), word.upper())}


def _as_yaml_1_1(value: Any, key: str = "") -> Any:
    """As YAML 1.1, which the tools' parsers read: keys of `<<`, and yes and no, though "no" names a strategy."""
    if isinstance(value, dict):
        merged = value.get("<<")
        for other in merged if isinstance(merged, list) else [merged]:
            if isinstance(other, dict):
                value = {**_as_yaml_1_1(other), **value}
        return {name: _as_yaml_1_1(inner, str(name)) for name, inner in value.items() if name != "<<"}
    if isinstance(value, list):
        return [_as_yaml_1_1(inner, key) for inner in value]
    return _WORDS.get(value, value) if isinstance(value, str) and not key.endswith("strategy") else value


_REFERENCE = re.compile(r"\$\{(?:oc\.env:(\w+)(?:,\s*([^}]*))?|([\w.]+))\}")
_DEEP = 8  # references that lead to references


def _interpolated(value: dict[str, Any]) -> dict[str, Any]:
    """With `${a.b}` of another key, and `${oc.env:NAME}`, put in as OmegaConf does, where they are known."""

    def known(match: re.Match[str]) -> Any:
        if match[1]:
            return os.environ.get(match[1], match[0] if match[2] is None else match[2])
        node: Any = value
        for name in match[3].split("."):
            node = node.get(name) if isinstance(node, dict) else None
        return match[0] if node is None or isinstance(node, (dict, list)) else node

    def put(one: Any, deep: int = 0) -> Any:
        if isinstance(one, dict):
            return {key: put(inner) for key, inner in one.items()}
        if isinstance(one, list):
            return [put(inner) for inner in one]
        if not isinstance(one, str) or deep > _DEEP:
            return one
        whole = _REFERENCE.fullmatch(one)
        new = known(whole) if whole else _REFERENCE.sub(lambda match: str(known(match)), one)
        return new if new == one else put(new, deep + 1)

    found: dict[str, Any] = put(value)
    return found


def _ordered(values: dict[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in (*_ORDER, *values) if key in values}


def _gpus(taken: Taken) -> int:
    """Those of a node that a verl configuration names itself."""
    named = [entry.value for entry in taken.entries if entry.key == "trainer.n_gpus_per_node"]
    return named[0] if named and isinstance(named[0], int) else 1


def _rest(taken: Taken, values: dict[str, Any], tool: str, gpus: int) -> tuple[Problem | str, ...]:
    """Make native keys of what is left where the backend takes them; what is still wrong with the recipe."""
    problems = _problems(values, gpus)
    natives = tool == values["backend"]
    sure = values if _loads(values) else _least(values)
    for key in list(taken.left) if natives else ():
        tried = {**sure, "backend_options": {**values.get("backend_options", {}), key: taken.left[key]}}
        why = [p.text for p in _problems(tried, gpus) if isinstance(p, Problem) and p.field == f"backend_options.{key}"]
        if why:
            taken.drop(key, why[0])
        else:
            taken.native(key)
            values["backend_options"] = tried["backend_options"]
    for key in list(taken.left):
        taken.drop(key, NO_FIELD)
    return _problems(values, gpus) if natives else problems


def _least(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe that loads, for one that does not: a backend says which keys act of a whole recipe only."""
    method = values.get("method", "sft")
    least = {key: values[key] for key in ("name", "backend")} | {"method": method, "model": {"path": "model"}}
    least |= {"data": {"train": [{"path": "rows"}]}, "tuning": {"type": values.get("tuning", {}).get("type", "lora")}}
    return least | ({"grpo": {"rewards": [{"type": "number"}]}} if method == "grpo" else {})


def _loads(values: dict[str, Any]) -> bool:
    try:
        load_text(dump(values).encode(), Path("recipe.yaml"), sources_needed=False)
    except UserError:
        return False
    return True


def _problems(values: dict[str, Any], gpus: int) -> tuple[Problem | str, ...]:
    source = dump(values).encode()
    try:
        loaded = load_text(source, Path("recipe.yaml"), sources_needed=False)
    except UserError as error:
        return tuple(error.problems)
    topology = Topology(gpus=gpus, processes=gpus, devices=tuple(map(str, range(gpus))))
    return tuple(backend(loaded.recipe.backend).problems(loaded, topology))


def _text(values: dict[str, Any], entries: tuple[Entry, ...], file: Path, tool: str) -> str:
    lost = [f"#   {entry.key}: {_shown(entry)}: {entry.text}" for entry in entries if entry.status == "no place"]
    head = [f"# Made of {file.name}, a configuration of {tool}, by `recipe import`."]
    head += ["# Not in it:", *lost] if lost else []
    body = dump(values)
    return "\n".join(head) + "\n" + body


def _shown(entry: Entry) -> str:
    """A value as the head has it, which is copied into each run: no secret; a special token such as <pad> is none."""
    text = hide(" ".join(str(entry.value).split()))
    if SECRET.search(entry.key) and not text.startswith(("<", "[")):
        return HIDDEN
    return text if len(text) <= 60 else text[:60] + " …"
