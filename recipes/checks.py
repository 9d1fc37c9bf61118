"""What the schema cannot say: fields that do not go together, numbers that are none, files that are not there."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes import data_files, formula
from recipes.columns import COLUMNS_OF_FORMAT, fields_of
from recipes.errors import Problem, UserError, did_you_mean
from recipes.launch_checks import launch_problems
from recipes.methods import METHODS, refused_sections
from recipes.model_checks import model_problems
from recipes.paths import hub_name, listed, local_path, lookup_problem, scheme
from recipes.reward_files import function_problem
from recipes.schema import leaves
from recipes.secret import ADDRESSED
from recipes.source_checks import held_out_problems, paths_of, source_problems, sources_of, weight_problems
from recipes.suite_checks import suite_problems
from recipes.suites import JUDGED, REFERENCE_METRICS, suite_id, suites_of, task_file
from recipes.tuning_checks import tuning_problems
from recipes.yaml_text import Document, Values
from recipes.yaml_text import Path as FieldPath

SECRET = re.compile(r"(token|api_key|secret|password)$")
UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


def odd_values(value: Any, path: FieldPath, document: Document) -> Iterator[Problem]:
    """Numbers that are none, and text that no file and no file name can hold."""
    if isinstance(value, dict):
        for key, item in value.items():
            if UNWRITABLE.search(key):
                yield document.problem(path, f"{key[:40]!r} is no key: it holds a NUL or half a character")
            yield from odd_values(item, (*path, key), document)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from odd_values(item, (*path, index), document)
    elif isinstance(value, str) and UNWRITABLE.search(value):
        yield document.problem(path, f"{value[:40]!r} is not allowed: it holds a NUL or half a character")
    elif isinstance(value, float) and not math.isfinite(value):
        yield document.problem(path, f"{value} is not allowed; allowed: a finite number")
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        yield document.problem(path, "a number of more than 308 digits is not allowed")


def method_checks(document: Document) -> Iterator[Problem]:
    """The fields that a recipe's method has no use for, and those that it needs."""
    value = document.value
    method = METHODS.get(str(value.get("method")))
    if method is None:
        return
    for path, text in refused_sections(method.name).items():
        section = value.get(path[0])
        if path[0] in value and (len(path) == 1 or (isinstance(section, dict) and path[1] in section)):
            yield document.problem(path, text)
    section = value.get("grpo")
    if method.rewards and not (isinstance(section, dict) and section.get("rewards")):
        yield document.problem(("grpo", "rewards"), f"missing; method: {method.name} needs at least one reward")


def cross_checks(value: Values, document: Document, root: Path, sources_needed: bool) -> Iterator[Problem]:
    unreadable = list(_path_checks(value, document, root))
    if unreadable:  # nothing else can be asked of such a path
        yield from unreadable
        return
    training, data = value.get("training", {}), value["data"]
    if training.get("warmup_ratio") and training.get("warmup_steps") is not None:
        yield document.problem(("training", "warmup_steps"), "given together with warmup_ratio; keep one of them")
    validation = data.get("validation", {})
    if validation.get("fraction") and validation.get("sources"):
        yield document.problem(("data", "validation", "sources"), "given together with fraction; keep one of them")
    yield from _eval_checks(value, document)
    yield from model_problems(value, document, root, sources_needed)
    yield from tuning_problems(value, document)
    yield from launch_problems(value, document)
    yield from _hub_checks(value, document, root)
    yield from _row_checks(value, document)
    yield from held_out_problems(value, document, root if sources_needed else None)
    if sources_needed:
        yield from _source_checks(value, document, root)
        yield from suite_problems(value, document, root, held_out=has_validation(value))
    yield from _own_checks(value, document, root)
    yield from _measure_checks(value, document)
    for key, option in value.get("backend_options", {}).items():
        if SECRET.search(key) and isinstance(option, str):
            text = "a secret must not stand in a recipe, which is copied into the run; set its environment variable"
            yield document.problem(("backend_options", key), text)


def _path_checks(value: Values, document: Document, root: Path) -> Iterator[Problem]:
    """Paths that the system cannot even look up: too long a name, no right to look, a home of nobody."""
    model, judged = value["model"], value.get("eval", {})
    texts: list[tuple[FieldPath, str]] = [(("model", "path"), model["path"])]
    texts += [found for place, source in sources_of(value) for found in paths_of(place, source)]
    texts += [(("eval", "data", suite), text) for suite, text in judged.get("data", {}).items()]
    texts += [(("model", "adapter_path"), model["adapter_path"])] if model.get("adapter_path") else []
    texts += [(("model", "tokenizer"), model["tokenizer"])] if model.get("tokenizer") else []
    texts += [(("model", "chat_template"), model["chat_template"])] if model.get("chat_template") else []
    texts += [(("eval", "scorer"), judged["scorer"].partition(":")[2])] if judged.get("scorer") else []
    named = [(n, task_file(suite)) for n, suite in enumerate(judged.get("suites", []))]
    texts += [(("eval", "suites", n), text) for n, text in named if text]
    texts += [((*place, "path"), own["path"].rpartition(":")[0]) for place, own in _own(value) if own.get("path")]
    for place, text in texts:
        text = lookup_problem(text, root)
        if text:
            yield document.problem(place, text)


def _hub_checks(value: Values, document: Document, root: Path) -> Iterator[Problem]:
    """What only a hub has, asked of something local."""
    model: tuple[FieldPath, Values] = ("model",), value["model"]
    every = [(place, given, path) for place, given in (model, *sources_of(value)) for path in listed(given["path"])]
    for place, given, path in every:
        local = path.startswith("bundled:") or local_path(path, root) is not None
        if local or (scheme(path) and not hub_name(path)):
            for leaf in ("revision", "subset"):
                if given.get(leaf) is not None:
                    kind = "local" if local else "a file of a store"
                    yield document.problem((*place, leaf), f"belongs to what comes from the hub, and {path} is {kind}")


def _eval_checks(value: Values, document: Document) -> Iterator[Problem]:
    judged = value.get("eval", {})
    suites, every, mode = judged.get("suites", []), judged.get("every"), judged.get("mode", "after")
    if not has_validation(value):
        for leaf in ("loss_every",) if suites else ("every", "loss_every"):
            if judged.get(leaf):
                text = "needs data.validation; set data.validation.fraction: 0.1, say"
                yield document.problem(("eval", leaf), text)
    if not (every and suites):
        for leaf in ("patience", "best_model"):
            if judged.get(leaf):
                yield document.problem(("eval", leaf), "needs eval.every and eval.suites: checkpoints that are scored")
    elif judged.get("patience") and mode == "after":
        text = "in mode after nothing is scored before the training ends; allowed with: pause, concurrent"
        yield document.problem(("eval", "patience"), text)
    if judged.get("devices") and mode != "concurrent":
        yield document.problem(("eval", "devices"), f"belongs to mode: concurrent, and the mode is {mode}")
    judge = judged.get("judge", {})
    if ADDRESSED.search(judge.get("base_url") or ""):
        text = "a password must not stand in a recipe, which is copied into the run; key_env names a variable"
        yield document.problem(("eval", "judge", "base_url"), text)
    if bool(judge.get("base_url")) != bool(judge.get("model")):
        yield document.problem(("eval", "judge"), "base_url and model go together")
    elif not judge.get("base_url") and judge.get("key_env"):
        yield document.problem(("eval", "judge", "key_env"), "belongs to a judge; set base_url and model too")
    elif judge.get("base_url") and JUDGED not in suites:
        text = (
            f"the judge is asked by the suite {JUDGED}, which eval.suites does not run; add it, or take the judge out"
        )
        yield document.problem(("eval", "judge"), text)
    if judged.get("combined_score") is not None:
        yield from _formula_checks(judged["combined_score"], suites, document)


def _formula_checks(text: str, suites: list[str], document: Document) -> Iterator[Problem]:
    place = ("eval", "combined_score")
    try:
        wanted = formula.names(text)
    except UserError as error:
        yield document.problem(place, error.problems[0].text)
        return
    for metric in wanted:
        if not set(suites_of(metric)) & set(map(suite_id, suites)):
            allowed = " or ".join(suites_of(metric))
            yield document.problem(place, f"{metric} is measured by {allowed}, which eval.suites does not run")


def has_validation(value: Values) -> bool:
    validation = value["data"].get("validation", {})
    return bool(validation.get("fraction") or validation.get("sources"))


def _source_checks(value: Values, document: Document, root: Path) -> Iterator[Problem]:
    for suite, text in value.get("eval", {}).get("data", {}).items():
        path = local_path(text, root)
        if path is not None and not data_files.there(path):
            yield document.problem(("eval", "data", suite), f"no such file: {path}")
        elif scheme(text):
            yield document.problem(("eval", "data", suite), f"cannot read {scheme(text)}:// here; copy the file")
    for place, source in sources_of(value):
        yield from source_problems(place, source, document, root)


def _row_checks(value: Values, document: Document) -> Iterator[Problem]:
    if value["data"].get("overlong") == "middle" and value["method"] != "sft":
        text = f"middle cuts the user's turn of an sft row; allowed with {value['method']}: drop, truncate, error"
        yield document.problem(("data", "overlong"), text)
    data, default = value["data"], leaves()["data.dedup_threshold"]["default"]
    most = data.get("max_samples")
    if isinstance(most, int) and most < len(data["train"]):
        text = f"{most} rows of {len(data['train'])} sources: at least one of each"
        yield document.problem(("data", "max_samples"), text)
    if data.get("dedup_threshold", default) != default and data.get("dedup") != "near":
        yield document.problem(("data", "dedup_threshold"), "belongs to dedup: near; take it out, or set that")
    yield from weight_problems(value, document)
    yield from _formats_and_columns(value, document)


def _formats_and_columns(value: Values, document: Document) -> Iterator[Problem]:
    """Formats and columns that do not go together."""
    allowed = METHODS[value["method"]].rows.formats
    for place, source in sources_of(value):
        name = source.get("format", "auto")
        if name not in ("auto", *allowed):
            text = f"{name!r} rows do not train {value['method']}; allowed: {', '.join(allowed)}"
            yield document.problem((*place, "format"), text)
            continue
        if source.get("min_margin") is not None and not {"preference", "ranked"} & {
            *(allowed if name == "auto" else [name])
        }:
            text = "belongs to pairs with scores: format preference or ranked, of dpo, orpo and kto; take it out"
            yield document.problem((*place, "min_margin"), text)
        names = [n for f in (allowed if name == "auto" else [name]) for n in COLUMNS_OF_FORMAT[f]]
        for ours, theirs in source.get("columns", {}).items():
            try:
                fields_of(theirs)
            except ValueError as error:
                yield document.problem((*place, "columns", ours), f"{theirs!r} is no template: {error}")
            if ours not in names:
                text = f"no column of {name if name != 'auto' else value['method']} rows; allowed: "
                text += ", ".join(dict.fromkeys(names)) + did_you_mean(ours, names)
                yield document.problem((*place, "columns", ours), text)


def _own(value: Values) -> Iterator[tuple[FieldPath, Values]]:
    """The user's own functions of a reply, with their places: rewards, and measures."""
    for section, name in (("grpo", "rewards"), ("eval", "measures")):
        for index, own in enumerate(value.get(section, {}).get(name, [])):
            yield (section, name, index), own


def _own_checks(value: Values, document: Document, root: Path) -> Iterator[Problem]:
    needs = {"regex": "pattern", "length": "target", "function": "path"}
    for place, own in _own(value):
        kind, what = own.get("type", "function"), str(place[1])[:-1]
        key = needs.get(kind)
        if key and own.get(key) is None:
            yield document.problem((*place, key), f"missing; a {what} of type {kind} needs it")
        for other in set(needs.values()) - {key}:
            if own.get(other) is not None:
                yield document.problem((*place, other), f"does not belong to a {what} of type {kind}")
        text = _pattern_problem(own.get("pattern")) if key == "pattern" else ""
        text = function_problem(own["path"], root) if key == "path" and own.get("path") else text
        if text and key:
            yield document.problem((*place, key), text)


def _measure_checks(value: Values, document: Document) -> Iterator[Problem]:
    judged = value.get("eval", {})
    names = [own["name"] for own in judged.get("measures", [])]
    if names and JUDGED not in judged.get("suites", []):
        yield document.problem(("eval", "measures"), f"measures are of the suite {JUDGED}; add it to eval.suites")
    for index, name in enumerate(names):
        if name in REFERENCE_METRICS or name in names[:index]:
            text = f"{name} is the name of another measure of the suite {JUDGED}; choose one of its own"
            yield document.problem(("eval", "measures", index, "name"), text)


def _pattern_problem(pattern: str | None) -> str:
    try:
        re.compile(pattern or "")
    except re.error as error:
        return f"{pattern!r} is not a regular expression: {error}"
    return ""
