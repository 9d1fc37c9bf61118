"""`stages:` of a recipe: several trainings, each of which begins with the weights of the one before.

stages:
  - name: sft
  - {name: dpo, method: dpo, data: {train: [{path: pairs.jsonl}]}}

A stage is the rest of the file with the stage's own fields over it: mappings are merged, anything else is replaced.
What comes out is a recipe as any other, without stages, and the file's places stay those of its values.

  - {name: final, method: eval, eval: {suites: [truthfulqa], data: {truthfulqa: truthfulqa}}}

trains nothing, and scores what the stage before it has made. As a recipe it is that training, with its own `eval`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from recipes.errors import Problem, UserError, did_you_mean
from recipes.yaml_text import Document, Path, dump

FIELD = "stages"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
HEAD = "# stage "  # how the text of a stage begins
EVAL = "eval"  # the method, and the section, of a stage that only scores
FIELDS = ("name", "description", "method", EVAL)  # that it has
# Fields of `eval` that act while a training goes on.
MEANWHILE = ("every", "loss_every", "mode", "devices", "combined_score", "patience", "best_model")


def has_stages(document: Document) -> bool:
    return isinstance(document.value, dict) and FIELD in document.value


def only_scores(document: Document, name: str) -> bool:
    """Whether a stage of that name trains nothing."""
    return any(stage["name"] == name and stage.get("method") == EVAL for stage in document.value[FIELD])


def stage_names(document: Document) -> list[str]:
    """The names of the stages, in their order, with those that only score.

    Raises:
        UserError: each mistake of the list itself, with its place.
    """
    stages = document.value[FIELD]
    if not isinstance(stages, list) or len(stages) < 2:
        raise UserError(
            document.problem((FIELD,), "expected a list of at least two stages, each a mapping with a name")
        )
    problems: list[Problem] = []
    names: list[str] = []
    for number, stage in enumerate(stages):
        problem = _problem(document, number, stage, names)
        if problem:
            problems.append(problem)
        else:
            names.append(stage["name"])
    if problems:
        raise UserError(*problems)
    return names


def _problem(document: Document, number: int, stage: Any, names: list[str]) -> Problem | None:
    place: Path = (FIELD, number)
    if not isinstance(stage, dict):
        return document.problem(place, "expected a mapping of the stage's name and the fields that are its own")
    name = stage.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        allowed = "letters, digits, '_' and '-', at most 40, starting with a letter"
        text = f"{name!r} is not allowed" if "name" in stage else "missing"
        return document.problem((*place, "name"), f"{text}; allowed: {allowed}")
    if name in names:
        return document.problem((*place, "name"), f"{name!r} is the name of an earlier stage; each has its own")
    if FIELD in stage:
        return document.problem((*place, FIELD), "a stage has no stages of its own")
    return _problem_of_scoring(document, number, stage) if stage.get("method") == EVAL else None


def _problem_of_scoring(document: Document, number: int, stage: Any) -> Problem | None:
    place: Path = (FIELD, number)
    if not number:
        text = "the first stage has nothing to score; put one that trains before it (`recipe eval` scores a model)"
        return document.problem((*place, "method"), text)
    for field in stage:
        if field not in FIELDS:
            text = f"a stage of method: eval trains nothing; its fields: {', '.join(FIELDS)}"
            return document.problem((*place, field), f"{text}{did_you_mean(str(field), FIELDS)}")
    if not isinstance(stage.get(EVAL), dict) or not stage[EVAL]:
        text = "missing" if EVAL not in stage else f"{stage[EVAL]!r} is not allowed"
        return document.problem((*place, EVAL), f"{text}; say what is scored, such as {{suites: [perplexity]}}")
    for field in stage[EVAL]:
        if field in MEANWHILE:
            return document.problem((*place, EVAL, field), "acts while a training goes on, and here nothing trains")
    return None


def stage_of(document: Document, name: str, chain: str) -> tuple[Document, bytes]:
    """The document of one stage, and its text as a recipe of its own.

    Args:
        chain: the name of the whole, where the file does not give one.

    Raises:
        UserError: the list is wrong, or has no such stage.
    """
    names = stage_names(document)
    if name not in names:
        text = f"no stage {name!r}{did_you_mean(name, names)}; its stages: {', '.join(names)}"
        raise UserError(document.problem((FIELD,), text))
    number = names.index(name)
    common = {field: value for field, value in document.value.items() if field != FIELD}
    found = Document(common, document.file, {(): (1, 1)})
    found.places |= {place: where for place, where in document.places.items() if place[:1] != (FIELD,)}
    head = f"{HEAD}{name} of {document.file}"
    if only_scores(document, name):
        before = next(n for n in range(number - 1, -1, -1) if document.value[FIELD][n].get("method") != EVAL)
        _lay_over(found, document, before, without=("name", "description", EVAL))
        _lay_over(found, document, number, without=("name", "method"))
        found.value[EVAL] = {field: value for field, value in found.value[EVAL].items() if field not in MEANWHILE}
        head += f", which trains nothing: it scores what {names[before]} has made"
    else:
        _lay_over(found, document, number, without=("name",))
    given = found.value.get("name") or chain
    if isinstance(given, str):  # else the schema says what is wrong with it
        found.value["name"] = f"{given}-{name}"
    return found, f"{head}\n{dump(found.value)}".encode()


def _lay_over(found: Document, document: Document, number: int, without: tuple[str, ...]) -> None:
    """Lay the fields of a stage over a document, with their places."""
    common, own = found.value, document.value[FIELD][number]
    own = {field: value for field, value in own.items() if field not in without}
    kept = {place: where for place, where in found.places.items() if not _replaced(place, common, own)}
    found.places.clear()
    found.places |= kept
    for place, where in document.places.items():
        if place[:2] == (FIELD, number) and place[2:] and place[2] not in without:
            found.places[place[2:]] = where
    for place, text in document.overrides.items():
        if place[:2] == (FIELD, number) and place[2:3] and place[2] not in without:
            found.overrides[place[2:]] = text
    found.value = _merged(common, own)


def _merged(common: Any, own: Any) -> Any:
    if isinstance(common, Mapping) and isinstance(own, Mapping):
        return {
            field: _merged(common[field], own[field])
            if field in common and field in own
            else copy.deepcopy(own.get(field, common.get(field)))
            for field in (*common, *(field for field in own if field not in common))
        }
    return copy.deepcopy(own)


def _replaced(place: Path, common: Any, own: Any) -> bool:
    """Whether a stage's own value stands where a value of the common part was, which is no mapping on both sides."""
    for part in place:
        if not (isinstance(common, Mapping) and isinstance(own, Mapping)):
            return True
        if part not in own:
            return False
        common, own = common[part], own[part]
    return not (isinstance(common, Mapping) and isinstance(own, Mapping))
