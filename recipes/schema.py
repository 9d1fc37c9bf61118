"""The recipe's JSON Schema: loaded once, asked for leaves and defaults, its errors turned into sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recipes.errors import SHOWN, Problem, did_you_mean
from recipes.hints import hint as other_name
from recipes.methods import refused_sections
from recipes.yaml_text import Document, dotted

Node = dict[str, Any]  # a part of a JSON Schema
SCHEMA_FILE = Path(__file__).parent / "recipe.schema.json"


@cache
def schema() -> Node:
    """The schema as a dict (JSON Schema 2020-12)."""
    loaded: Node = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return loaded


@cache
def leaves() -> Mapping[str, Node]:
    """Every leaf field by its dotted name (`data.train[].path`) with its schema; `stages` is of the file alone."""
    return dict(_leaves(schema(), ""))


def _leaves(node: Node, name: str) -> Iterator[tuple[str, Node]]:
    node = _resolve(node)
    items = node.get("items")
    if "properties" in node:
        for key, child in node["properties"].items():
            if child.get("x-expanded"):  # by the loader, before anything else reads the recipe
                continue
            yield from _leaves(child, f"{name}.{key}".removeprefix("."))
    elif items and not node.get("x-leaf"):
        yield from _leaves(items, f"{name}[]")
    else:
        yield name, node


def _resolve(node: Node) -> Node:
    reference = node.get("$ref")
    return schema()["$defs"][reference.rpartition("/")[2]] if reference else node


def with_defaults(value: Any, node: Node | None = None) -> Any:
    """`value` with every absent field filled in from the schema; the input is left as it is."""
    node = _resolve(node if node is not None else schema())
    if "properties" in node and isinstance(value, dict):
        filled = dict(value)
        for key, child in node["properties"].items():
            child = _resolve(child)
            if key in filled or "default" in child:
                filled[key] = with_defaults(filled.get(key, child.get("default")), child)
        return filled
    if "items" in node and isinstance(value, list):
        return [with_defaults(item, node["items"]) for item in value]
    return value


def without_refused(value: Node) -> Node:
    """`value` without the fields that are refused beside the others (`preference` under sft)."""
    import copy

    import jsonschema

    kept = copy.deepcopy(value)
    for error in jsonschema.Draft202012Validator(schema()).iter_errors(value):
        if isinstance(error.schema, dict) and "x-refused" in error.schema:
            parent = kept
            for part in list(error.absolute_path)[:-1]:
                parent = parent.get(part, {})
            parent.pop(error.absolute_path[-1], None)
    for path in refused_sections(value["method"]):
        parent = kept if len(path) == 1 else kept.get(path[0], {})
        parent.pop(path[-1], None)
    return kept


def problems(document: Document) -> list[Problem]:
    """All mistakes of a document against the schema, each with its place, in the order of the file."""
    import jsonschema  # half of what `recipe --help` would otherwise cost

    validator = jsonschema.Draft202012Validator(schema())
    found: dict[Problem, None] = {}
    for error in validator.iter_errors(document.value):
        for problem in _sentences(error, document):
            found.setdefault(problem)
    return sorted(found, key=lambda p: (p.line, p.column))


def _sentences(error: Any, document: Document) -> Iterator[Problem]:
    path = tuple(error.absolute_path)
    node, value = error.schema, error.instance
    if error.validator == "additionalProperties" and "properties" in node:
        unknown = [key for key in value if key not in node["properties"]]
        for n, key in enumerate(unknown):
            if n > SHOWN:
                yield document.problem((*path, key), "unknown field")  # a hint costs time, and nobody sees this one
            else:
                hint = other_name(key, node["properties"], leaves()) or f"; allowed: {', '.join(node['properties'])}"
                yield document.problem((*path, key), f"unknown field{hint}")
    elif error.validator == "required":
        missing = next(key for key in error.validator_value if key not in value and repr(key) in error.message)
        yield document.problem((*path, missing), f"missing; allowed: {allowed(_child(path, missing))}")
    else:
        yield document.problem(path, _sentence(error.validator, node, value))


def _sentence(keyword: str, node: Node, value: Any) -> str:
    if "x-refused" in node:
        return str(node["x-refused"])
    words = allowed(node)
    hint = did_you_mean(value, [v for v in node.get("enum", []) if v]) if isinstance(value, str) else ""
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    kind = {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value))
    if keyword in ("type", "enum", "oneOf") and kind:
        return f"expected {'one of ' if 'enum' in node else ''}{words}, got {kind}"
    if keyword == "uniqueItems":
        return f"{shown} names something twice"
    reason = node.get("x-reasons", {}).get(value, "") if isinstance(value, str) else ""
    return f"{shown} is not allowed{f': {reason}' if reason else ''}; allowed: {words}{'' if reason else hint}"


def _child(path: tuple[str | int, ...], key: str) -> Node:
    node = schema()
    for part in (*path, key):
        node = _resolve(node)
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return _resolve(node)


_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
    "array": "a list",
}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "length at least {}",
    "maxItems": "length at most {}",
}


def allowed(node: Node) -> str:
    """What a field may be, in words: `a whole number, at least 1`."""
    if "x-allowed" in node:
        return str(node["x-allowed"])
    if "enum" in node:
        values = ["null" if v is None else str(v) for v in node["enum"]]
        return ", ".join(values + ([node["x-also"]] if "x-also" in node else []))
    types = node.get("type", [])
    words = " or ".join(_KINDS[t] for t in ([types] if isinstance(types, str) else types))
    if node.get("minLength"):
        words = f"{words} that is not empty"
    bounds = [template.format(node[key]) for key, template in _BOUNDS.items() if key in node]
    return ", ".join(filter(None, [words, *bounds]))


__all__ = ["allowed", "dotted", "leaves", "problems", "schema", "with_defaults"]
