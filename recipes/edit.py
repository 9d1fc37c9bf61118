"""Changes values in a recipe's text and leaves the rest of it, comments too, as it was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from recipes.yaml_text import Path, compose, dump, parse


def edited(text: str, changes: Mapping[Path, Any]) -> str:
    """The text with other values at these places; what is not there yet is put in, at the end of its section.

    Whoever calls it must read the result again: YAML has ways to write a value that are not known here, such as
    aliases, and lists are not made longer.
    """
    for path, value in changes.items():
        text = _put(text, path, value)
    return text


def _put(text: str, path: Path, value: Any) -> str:
    node = compose(text)
    for place, part in enumerate(path):
        below = _below(node, part)
        if below is None:
            return _insert(text, node, path[place:], value)
        node = below
    return _replace(text, node, value)


def _below(node: yaml.Node, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found
    return None


def _replace(text: str, node: yaml.Node, value: Any) -> str:
    start, end = node.start_mark.index, _end(text, node)
    before = text[:start]
    if not before[before.rfind("\n") + 1 :].strip():  # a block begins on a line of its own
        before = before.rstrip() + " "
    return before + (" " if before.endswith(":") else "") + dump(value, flow=True) + text[end:]


def _insert(text: str, node: yaml.Node, rest: Path, value: Any) -> str:
    """A new field in a mapping; in one that is written between braces, or empty, by writing it anew."""
    for part in reversed(rest[1:]):
        value = {part: value}
    if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
        old = parse(text[node.start_mark.index : _end(text, node)].encode(), "").value
        return _replace(text, node, {**(old if isinstance(old, dict) else {}), rest[0]: value})
    end = text.find("\n", _end(text, node))
    end = len(text) if end < 0 else end
    indent = " " * node.value[0][0].start_mark.column
    return f"{text[:end]}\n{indent}{rest[0]}: {dump(value, flow=True)}{text[end:]}"


def _end(text: str, node: yaml.Node) -> int:
    """Where the last of a node's text ends: a block's own mark is at what follows, behind comments and empty lines."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        return max(_end(text, one) for one in _inner(node))
    return max(node.start_mark.index, len(text[: node.end_mark.index].rstrip()))


def _inner(node: yaml.CollectionNode) -> Iterable[yaml.Node]:
    return [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
