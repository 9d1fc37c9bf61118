"""From a recipe's path or name to a checked, frozen Recipe; all mistakes of a file at once."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipes import checks, made, schema, stages
from recipes.errors import UserError, did_you_mean
from recipes.methods import METHODS
from recipes.paths import anchored, listed, local_path, template_file
from recipes.suites import absolute_suite
from recipes.typed import from_json
from recipes.types import Recipe
from recipes.visible import visible
from recipes.yaml_text import MAX_DEPTH, Document, Values, comment_in, dotted, parse, parse_value
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
    scoring: bool = False  # of a stage that trains nothing: it is the training whose model it scores

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


def load(name: str | Path, overrides: Sequence[str] = (), *, scoring: bool = False) -> LoadedRecipe:
    """Load and check a recipe.

    Args:
        name: a path, or a name of the catalogue; of a recipe with stages, NAME:STAGE.
        overrides: `field=value`, as `--set` takes them; later ones win. `stages[0].field=value` is of one stage.
        scoring: take a stage that trains nothing, too.

    Raises:
        UserError: every mistake of the file, each with `file:line:column: field`; or it has stages, and none is named.
    """
    path, stage = _with_stage(str(name))
    source = _source(str(name), path)
    if not stage:
        return load_text(source, path, overrides)
    document = parse(source, str(path))
    if not stages.has_stages(document):
        raise UserError(f"{name}: {path} has no stages; leave :{stage} out")
    own = [text for text in overrides if _of_stages(text)]
    _override(document, own)
    picked, text = stages.stage_of(document, stage, _own_name(path))
    only = stages.only_scores(document, stage)
    if only and not scoring:
        raise UserError(f"{name} trains nothing; it is for `recipe run`, `plan`, `validate` and `show`")
    common = [text for text in overrides if text not in own]
    return replace(_loaded(picked, text, path, common, sources_needed=True), scoring=only)


def stages_of(name: str | Path, *, scoring: bool = False) -> list[str]:
    """What `load` takes for each training of a recipe: NAME:STAGE of one with stages, else its name alone.

    Args:
        scoring: with the stages that train nothing; without, NAME:STAGE of such a one is no training.

    Raises:
        UserError: it cannot be read, or its list of stages is wrong.
    """
    path, stage = _with_stage(str(name))
    document = parse(_source(str(name), path), str(path))
    if not stages.has_stages(document):
        return [str(name)]
    known = stages.stage_names(document)
    each = {str(name): stage} if stage else {f"{name}:{one}": one for one in known}
    return [full for full, one in each.items() if scoring or not stages.only_scores(document, one)]


def trainings() -> list[str]:
    """The written recipes that come with the package, as `load` takes them: each stage for itself."""
    return [one for name in catalogue() for one in stages_of(name)]


def _with_stage(name: str) -> tuple[Path, str]:
    """A recipe's file, and the stage that the name ends with."""
    front, colon, stage = name.rpartition(":")
    if colon and front and stages.NAME.fullmatch(stage) and not _is_file(name):
        return find(front), stage
    return find(name), ""


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _of_stages(override: str) -> bool:
    return bool(re.match(r"\s*stages\s*[.\[=]", override))


def load_text(source: bytes, path: Path, overrides: Sequence[str] = (), *, sources_needed: bool = True) -> LoadedRecipe:
    """As `load`, from the bytes of a file; `path` serves messages and relative paths.

    A run that has its data prepared does not need the sources to be there still.
    """
    document = parse(source, str(path))
    if stages.has_stages(document):
        names = stages.stage_names(document)
        text = f"{', '.join(names)}: `recipe run`, `plan`, `validate` and `show` take a recipe with stages whole"
        text += f"; for anything else name one, such as {path}:{names[0]}"
        raise UserError(document.problem((stages.FIELD,), text))
    return _loaded(document, source, path, overrides, sources_needed=sources_needed)


def _loaded(
    document: Document, source: bytes, path: Path, overrides: Sequence[str], *, sources_needed: bool
) -> LoadedRecipe:
    if not isinstance(document.value, dict):
        raise UserError(document.problem((), "a recipe is a mapping of fields; see `recipe list` for examples"))
    _override(document, overrides)
    if stages.has_stages(document):
        raise UserError(
            document.problem((stages.FIELD,), "stages are written in the file; --set changes what is there")
        )
    _lists_of_one(document.value)
    odd = list(checks.odd_values(document.value, (), document))
    told = {problem.field for problem in odd}  # what is no value at all is out of its range, too
    problems = [
        *odd,
        *(problem for problem in schema.problems(document) if problem.field not in told),
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
        if not equals or not parts or re.search(r"^\.|\.\.|\.$", field.strip()):
            raise UserError(f"--set {visible(text[:80])}: write it as field=value, such as training.epochs=1")
        if len(parts) > MAX_DEPTH:
            raise UserError(f"--set {visible(text[:80])}…: nested more than {MAX_DEPTH} levels deep")
        if problem := comment_in(value):
            raise UserError(f"--set {visible(field[:80])}: {problem}")
        path = tuple(int(p) if re.fullmatch("[0-9]{1,9}", p) else p for p in parts)
        document.overrides[path] = text
        own = path[2:] if path[0] == stages.FIELD else path  # paths are relative to where the command was given
        _put(document, path, anchored(own, parse_value(value), Path.cwd()))


def _put(document: Document, path: FieldPath, value: Any) -> None:
    node: Any = document.value
    for n, part in enumerate(path[:-1]):
        if isinstance(node, dict) and isinstance(part, str):
            node = node.setdefault(part, {})
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            raise UserError(document.problem(path, _no_place(node, path[:n], path[n:])))
    last = path[-1]
    if (isinstance(node, dict) and isinstance(last, str)) or (
        isinstance(node, list) and isinstance(last, int) and last < len(node)
    ):
        node[last] = value  # type: ignore[index]
    else:
        raise UserError(document.problem(path, _no_place(node, path[:-1], (last,))))


def _no_place(node: Any, before: FieldPath, rest: FieldPath) -> str:
    if isinstance(node, list) and before and re.fullmatch(r"-?\d+", str(rest[0])):
        items = f"{len(node)} item{'' if len(node) == 1 else 's'}"
        return f"no such place in this recipe; {dotted(before)} has {items}, counted from [0]"
    if isinstance(node, list) and isinstance(rest[0], str) and before:
        return f"no such place in this recipe; {before[-1]} is a list: write {dotted((*before, 0, *rest))}"
    return "no such place in this recipe"


def _lists_of_one(value: Values) -> None:
    """`logging: tensorboard` and `eval.suites=qmsum` can mean one thing only."""
    for section, leaf in ((value, "logging"), (value.get("eval"), "suites")):
        if isinstance(section, dict) and isinstance(section.get(leaf), str) and section[leaf]:
            section[leaf] = [section[leaf]]


def _own_name(path: Path) -> str:
    """What a recipe without a name is called, by its file."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:80] or "recipe"


def _resolve(value: Values, path: Path) -> Values:
    """Defaults in, local paths absolute."""
    full: Values = schema.with_defaults(value)
    full["name"] = full.get("name") or _own_name(path)
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
