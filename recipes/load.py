"""From a recipe's path or name to a checked, frozen Recipe; all mistakes of a file at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes import checks, made, schema
from recipes.errors import UserError, did_you_mean
from recipes.methods import METHODS
from recipes.paths import listed, local_path, lookup_problem, template_file
from recipes.suites import absolute_suite
from recipes.typed import from_json
from recipes.types import Recipe
from recipes.visible import visible
from recipes.yaml_text import MAX_DEPTH, Document, Values, dotted, parse, parse_value
from recipes.yaml_text import Path as FieldPath

CATALOGUE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class LoadedRecipe:
    """A recipe with what it was made of."""

    recipe: Recipe
    path: Path
    source: bytes
    overrides: tuple[str, ...]
    document: Document
    resolved: Values  # plain values with defaults and overrides in
    chosen: tuple[str, ...] = ()  # what a field's auto became on these machines, in sentences

    def complete(self) -> Values:
        """The resolved values without the fields that this method and tuning refuse: a valid recipe again."""
        return schema.without_refused(self.resolved)


def catalogue() -> dict[str, Path]:
    """The written recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(CATALOGUE.glob("*.yaml"))}


def names() -> list[str]:
    """The names of all recipes that come with the package: those that are written, then those that are made."""
    return [*catalogue(), *made.made()]


def find(name: str) -> Path:
    """A recipe's file by path, or by its name in the catalogue; of one that is made, where its file would be."""
    path = Path(name)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError) as error:  # a name of 300 characters, a NUL in it
        raise UserError(f"{visible(name[:80])}: no path: {getattr(error, 'strerror', None) or error}") from None
    known = catalogue()
    if name in known:
        return known[name]
    if name in made.made():
        return CATALOGUE / f"{name}.yaml"
    hint = did_you_mean(path.name.removesuffix(".yaml"), names())
    raise UserError(f"{name}: no such recipe file, and none of that name in the catalogue{hint} (see `recipe list`)")


def _source(name: str, path: Path) -> bytes:
    if name in made.made() and path.parent == CATALOGUE:
        return made.text(name).encode()
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def load(name: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Load and check a recipe.

    Args:
        name: a path, or a name of the catalogue.
        overrides: `field=value`, as `--set` takes them; later ones win.

    Raises:
        UserError: every mistake of the file, each with `file:line:column: field`.
    """
    path = find(str(name))
    return load_text(_source(str(name), path), path, overrides)


def load_text(source: bytes, path: Path, overrides: Sequence[str] = (), *, sources_needed: bool = True) -> LoadedRecipe:
    """As `load`, from the bytes of a file; `path` serves messages and relative paths.

    A run that has its data prepared does not need the sources to be there still.
    """
    document = parse(source, str(path))
    if not isinstance(document.value, dict):
        raise UserError(document.problem((), "a recipe is a mapping of fields; see `recipe list` for examples"))
    _override(document, overrides)
    _lists_of_one(document.value)
    problems = [
        *checks.odd_values(document.value, (), document),
        *schema.problems(document),
        *checks.method_checks(document),
    ]
    problems = problems or list(checks.cross_checks(document.value, document, path.parent, sources_needed))
    if problems:
        raise UserError(*problems)
    resolved = _resolve(document.value, path)
    return LoadedRecipe(
        recipe=from_json(Recipe, _typed(resolved)),
        path=path,
        source=source,
        overrides=tuple(overrides),
        document=document,
        resolved=resolved,
    )


def _typed(resolved: Values) -> Values:
    """As the types have it: auto is no number yet."""
    training = resolved["training"]
    if training["micro_batch_size"] != "auto":
        return resolved
    return resolved | {"training": training | {"micro_batch_size": 0}}


def _override(document: Document, overrides: Sequence[str]) -> None:
    for text in overrides:
        field, equals, value = text.partition("=")
        try:
            text.encode()
        except UnicodeEncodeError:  # what the shell gave was no UTF-8
            shown = text.encode(errors="backslashreplace").decode()[:80]
            raise UserError(f"--set {shown}: bytes that are not UTF-8") from None
        parts = [p for p in re.split(r"\.|\[|\]\.?", field.strip()) if p]
        if not equals or not parts:
            raise UserError(f"--set {visible(text[:80])}: write it as field=value, such as training.epochs=1")
        if len(parts) > MAX_DEPTH:
            raise UserError(f"--set {visible(text[:80])}…: nested more than {MAX_DEPTH} levels deep")
        path = tuple(int(p) if re.fullmatch("[0-9]{1,9}", p) else p for p in parts)
        document.overrides[path] = text
        # Its paths are the user's own: relative to where the command was given.
        _put(document, path, anchored(path, parse_value(value), Path.cwd()))


# Fields that are paths, with what stands before and after the path in their text.
_PATHS: tuple[tuple[str, str, str], ...] = (
    (
        r"model\.(path|adapter_path|tokenizer|chat_template)|data\.(train|validation\.sources)\[\]\.path(\[\])?|eval\.data\.[^.]*",
        "",
        "",
    ),
    (r"eval\.scorer", r"[a-z]*:", ""),
    (r"(grpo\.rewards|eval\.measures)\[\]\.path", "", r":[^:]*"),
)


def anchored(path: FieldPath, value: Any, root: Path) -> Any:
    """A value of a field with the local paths in it absolute, where they are relative to `root`."""
    if isinstance(value, dict):
        return {key: anchored((*path, key), item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [anchored((*path, index), item, root) for index, item in enumerate(value)]
    field = re.sub(r"\[\d+\]", "[]", dotted(path))
    for pattern, before, after in _PATHS:
        found = re.fullmatch(f"({before})(.*?)({after})", value, re.DOTALL) if isinstance(value, str) else None
        if found and re.fullmatch(pattern, field) and "\0" not in value and not lookup_problem(found[2], root):
            local = local_path(found[2], root)
            return f"{found[1]}{local}{found[3]}" if local and not found[2].startswith("bundled:") else value
    return value


def local_files(loaded: LoadedRecipe) -> list[Path]:
    """The files and directories of this machine that a recipe names; of a pattern, the directory that it is below."""
    found: dict[Path, None] = {}
    for field, value in _texts(loaded.resolved, ()):
        for pattern, before, after in (*_PATHS, (r"eval\.suites\[\]", "lm_eval:", "")):
            parts = re.fullmatch(f"({before})(.*?)({after})", value, re.DOTALL)
            if parts and re.fullmatch(pattern, field) and Path(parts[2]).is_absolute():
                path = Path(parts[2])
                while not path.exists() and re.search(r"[*?\[]", str(path)):
                    path = path.parent
                found[path] = None
    return list(found)


def _texts(value: Any, path: FieldPath) -> Iterator[tuple[str, str]]:
    """The texts of a recipe with their fields, such as data.train[].path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str):
        yield re.sub(r"\[\d+\]", "[]", dotted(path)), value


def _put(document: Document, path: FieldPath, value: Any) -> None:
    node: Any = document.value
    for n, part in enumerate(path[:-1]):
        if isinstance(node, dict) and isinstance(part, str):
            node = node.setdefault(part, {})
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            raise UserError(document.problem(path[: n + 1], _no_place(node, path[:n], path[n:])))
    last = path[-1]
    if (isinstance(node, dict) and isinstance(last, str)) or (
        isinstance(node, list) and isinstance(last, int) and last < len(node)
    ):
        node[last] = value  # type: ignore[index]
    else:
        raise UserError(document.problem(path, _no_place(node, path[:-1], (last,))))


def _no_place(node: Any, before: FieldPath, rest: FieldPath) -> str:
    if isinstance(node, list) and isinstance(rest[0], str) and before:
        return f"no such place in this recipe; {before[-1]} is a list: write {dotted((*before, 0, *rest))}"
    return "no such place in this recipe"


def _lists_of_one(value: Values) -> None:
    """`logging: tensorboard` and `eval.suites=qmsum` can mean one thing only."""
    for section, leaf in ((value, "logging"), (value.get("eval"), "suites")):
        if isinstance(section, dict) and isinstance(section.get(leaf), str) and section[leaf]:
            section[leaf] = [section[leaf]]


def _resolve(value: Values, path: Path) -> Values:
    """Defaults in, local paths absolute."""
    full: Values = schema.with_defaults(value)
    full["name"] = full.get("name") or re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:80] or "recipe"
    tuning, training, judged = full["tuning"], full["training"], full["eval"]
    if judged["every"] and judged["suites"]:
        # Only checkpoints are scored, so there is one wherever a score is asked for.
        saved = value.get("checkpoint", {}).get("every") or judged["every"]
        full["checkpoint"]["every"] = math.gcd(int(saved), int(judged["every"]))  # 4.0 is a whole number in JSON
    if judged["loss_every"] is None and checks.has_validation(full):
        judged["loss_every"] = judged["every"]
    if tuning["alpha"] is None:
        tuning["alpha"] = 2 * tuning["rank"]
    method = METHODS[full["method"]]
    training.setdefault("learning_rate", method.learning_rate["lora" if tuning["type"] == "lora" else "full"])
    full["preference"].setdefault("beta", method.beta)
    for source in [*full["data"]["train"], *full["data"]["validation"]["sources"]]:
        found = [str(local_path(one, path.parent) or one) for one in listed(source["path"])]
        source["path"] = found if isinstance(source["path"], list) else found[0]
    model = full["model"]
    if not model["path"].startswith("bundled:"):
        local = local_path(model["path"], path.parent)
        model["path"] = str(local) if local else model["path"]
    if model["adapter_path"]:
        model["adapter_path"] = str((path.parent / model["adapter_path"]).resolve())
    if model["tokenizer"]:
        model["tokenizer"] = str(local_path(model["tokenizer"], path.parent) or model["tokenizer"])
    if model["chat_template"]:
        model["chat_template"] = str(template_file(model["chat_template"], path.parent))
    for own in [*full["grpo"]["rewards"], *judged["measures"]]:
        if own["path"]:
            own["path"] = str((path.parent / own["path"]).resolve())
    kind, colon, where = judged["scorer"].partition(":")
    judged["scorer"] = kind + colon + str(local_path(where, path.parent) or where if colon else "")
    judged["suites"] = [absolute_suite(suite, path.parent) for suite in judged["suites"]]
    judged["data"] = {suite: str(local_path(where, path.parent) or where) for suite, where in judged["data"].items()}
    return full
