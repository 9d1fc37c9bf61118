"""From a recipe's path or name to a checked, frozen Recipe; all mistakes of a file at once."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes import schema
from recipes.errors import Problem, UserError, did_you_mean
from recipes.reward_files import function_problem
from recipes.types import Recipe, build
from recipes.yaml_text import Document, parse, parse_value
from recipes.yaml_text import Path as FieldPath

CATALOGUE = Path(__file__).parent
DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
BUNDLED = ("bundled:smollm2-135m-instruct",)
SECRET = re.compile(r"(token|api_key|secret|password)$")
FORMATS_OF_METHOD = {
    "sft": ("alpaca", "prompt_response", "messages", "conversations"),
    "dpo": ("preference",),
    "orpo": ("preference",),
    "kto": ("feedback",),
    "grpo": ("prompts",),
}


@dataclass(frozen=True, kw_only=True)
class LoadedRecipe:
    """A recipe with what it was made of."""

    recipe: Recipe
    path: Path
    source: bytes
    overrides: tuple[str, ...]
    document: Document
    resolved: dict[str, Any]  # plain values with defaults and overrides in

    def complete(self) -> dict[str, Any]:
        """The resolved values without the fields that this method and tuning refuse: a valid recipe again."""
        return schema.without_refused(self.resolved)


def catalogue() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(CATALOGUE.glob("*.yaml"))}


def find(name: str) -> Path:
    """A recipe's file by path, or by its name in the catalogue."""
    path = Path(name)
    if path.is_file():
        return path
    known = catalogue()
    if name in known:
        return known[name]
    hint = did_you_mean(path.stem, known)
    raise UserError(f"{name}: no such recipe file, and none of that name in the catalogue{hint} (see `recipe list`)")


def load(name: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Load and check a recipe.

    Args:
        name: a path, or a name of the catalogue.
        overrides: `field=value`, as `--set` takes them; later ones win.

    Raises:
        UserError: every mistake of the file, each with `file:line:column: field`.
    """
    path = find(str(name))
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return load_text(source, path, overrides)


def load_text(source: bytes, path: Path, overrides: Sequence[str] = (), *, sources_needed: bool = True) -> LoadedRecipe:
    """As `load`, from the bytes of a file; `path` serves messages and relative paths.

    A run that has its data prepared does not need the sources to be there still.
    """
    document = parse(source, str(path))
    if not isinstance(document.value, dict):
        raise UserError(document.problem((), "a recipe is a mapping of fields; see `recipe list` for examples"))
    _override(document, overrides)
    problems = [*_not_finite(document.value, (), document), *schema.problems(document)]
    problems = problems or list(_cross_checks(document.value, document, path.parent, sources_needed))
    if problems:
        raise UserError(*problems)
    resolved = _resolve(document.value, path)
    return LoadedRecipe(
        recipe=build(Recipe, resolved),
        path=path,
        source=source,
        overrides=tuple(overrides),
        document=document,
        resolved=resolved,
    )


def local_path(text: str, root: Path) -> Path | None:
    """`text` as a local path (relative to `root`), or None where it reads as a hub id."""
    path = Path(text).expanduser()
    resolved = path if path.is_absolute() else (root / path).resolve()
    looks_local = text.startswith(("/", "./", "../", "~")) or path.suffix in DATA_SUFFIXES or "\\" in text
    return resolved if looks_local or resolved.exists() else None


def _override(document: Document, overrides: Sequence[str]) -> None:
    for text in overrides:
        field, equals, value = text.partition("=")
        path = tuple(int(p) if p.isdigit() else p for p in re.split(r"\.|\[|\]\.?", field.strip()) if p)
        if not equals or not path:
            raise UserError(f"--set {text}: write it as field=value, such as training.epochs=1")
        document.overrides[path] = text
        _put(document, path, parse_value(value))


def _put(document: Document, path: FieldPath, value: Any) -> None:
    node: Any = document.value
    for n, part in enumerate(path[:-1]):
        if isinstance(node, dict) and isinstance(part, str):
            node = node.setdefault(part, {})
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            raise UserError(document.problem(path[: n + 1], "no such place in this recipe"))
    last = path[-1]
    if (isinstance(node, dict) and isinstance(last, str)) or (
        isinstance(node, list) and isinstance(last, int) and last < len(node)
    ):
        node[last] = value  # type: ignore[index]
    else:
        raise UserError(document.problem(path, "no such place in this recipe"))


def _not_finite(value: Any, path: FieldPath, document: Document) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, (*path, key), document)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, (*path, index), document)
    elif isinstance(value, float) and not math.isfinite(value):
        yield document.problem(path, f"{value} is not allowed; allowed: a finite number")
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        yield document.problem(path, "a number of more than 308 digits is not allowed")


def _cross_checks(value: dict[str, Any], document: Document, root: Path, sources_needed: bool) -> Iterator[Problem]:
    training, data = value.get("training", {}), value["data"]
    if training.get("warmup_ratio") and training.get("warmup_steps") is not None:
        yield document.problem(("training", "warmup_steps"), "given together with warmup_ratio; keep one of them")
    validation = data.get("validation", {})
    if validation.get("fraction") and validation.get("sources"):
        yield document.problem(("data", "validation", "sources"), "given together with fraction; keep one of them")
    if value.get("eval", {}).get("every") and not (validation.get("fraction") or validation.get("sources")):
        yield document.problem(("eval", "every"), "needs data.validation; set data.validation.fraction: 0.1, say")
    if value["model"]["path"].startswith("bundled:") and value["model"]["path"] not in BUNDLED:
        yield document.problem(("model", "path"), f"no such bundled model; allowed: {', '.join(BUNDLED)}")
    template = value["model"].get("chat_template")
    if template and not (root / template).is_file():
        yield document.problem(("model", "chat_template"), f"no such file: {root / template}")
    if sources_needed:
        yield from _source_checks(value, document, root)
    yield from _reward_checks(value, document, root)
    for key, option in value.get("backend_options", {}).items():
        if SECRET.search(key) and isinstance(option, str):
            text = "a secret must not stand in a recipe, which is copied into the run; set its environment variable"
            yield document.problem(("backend_options", key), text)


def _source_checks(value: dict[str, Any], document: Document, root: Path) -> Iterator[Problem]:
    allowed = FORMATS_OF_METHOD[value["method"]]
    lists: dict[FieldPath, list[dict[str, Any]]] = {("data", "train"): value["data"]["train"]}
    lists[("data", "validation", "sources")] = value["data"].get("validation", {}).get("sources", [])
    for place, sources in lists.items():
        for index, source in enumerate(sources):
            if source.get("format", "auto") not in ("auto", *allowed):
                text = f"{source['format']!r} rows do not train {value['method']}; allowed: {', '.join(allowed)}"
                yield document.problem((*place, index, "format"), text)
            path = local_path(source["path"], root)
            if path is not None and not path.exists():
                siblings = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
                text = f"no such file: {path}{did_you_mean(path.name, siblings)}"
                yield document.problem((*place, index, "path"), text)


def _reward_checks(value: dict[str, Any], document: Document, root: Path) -> Iterator[Problem]:
    needs = {"regex": "pattern", "length": "target", "function": "path"}
    for index, reward in enumerate(value.get("grpo", {}).get("rewards", [])):
        place, key = ("grpo", "rewards", index), needs.get(reward["type"])
        if key and reward.get(key) is None:
            yield document.problem((*place, key), f"missing; a reward of type {reward['type']} needs it")
        for other in set(needs.values()) - {key}:
            if reward.get(other) is not None:
                yield document.problem((*place, other), f"does not belong to a reward of type {reward['type']}")
        text = _pattern_problem(reward.get("pattern")) if key == "pattern" else ""
        text = function_problem(reward["path"], root) if key == "path" and reward.get("path") else text
        if text and key:
            yield document.problem((*place, key), text)


def _pattern_problem(pattern: str | None) -> str:
    try:
        re.compile(pattern or "")
    except re.error as error:
        return f"{pattern!r} is not a regular expression: {error}"
    return ""


def _resolve(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """Defaults in, local paths absolute."""
    full: dict[str, Any] = schema.with_defaults(value)
    full["name"] = full.get("name") or re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:80] or "recipe"
    tuning, training = full["tuning"], full["training"]
    if tuning["alpha"] is None:
        tuning["alpha"] = 2 * tuning["rank"]
    training.setdefault("learning_rate", schema.default_learning_rate(full["method"], tuning["type"]))
    for source in [*full["data"]["train"], *full["data"]["validation"]["sources"]]:
        local = local_path(source["path"], path.parent)
        source["path"] = str(local) if local else source["path"]
    model = full["model"]
    if not model["path"].startswith("bundled:"):
        local = local_path(model["path"], path.parent)
        model["path"] = str(local) if local else model["path"]
    if model["chat_template"]:
        model["chat_template"] = str((path.parent / model["chat_template"]).resolve())
    for reward in full["grpo"]["rewards"]:
        if reward["path"]:
            reward["path"] = str((path.parent / reward["path"]).resolve())
    full["eval"]["data"] = {
        suite: str(local_path(where, path.parent) or where) for suite, where in full["eval"]["data"].items()
    }
    return full
