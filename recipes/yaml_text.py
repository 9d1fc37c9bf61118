"""Reads YAML as a person means it: every value keeps its line, `1e-5` is a number, a duplicate key is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from recipes.errors import Problem, UserError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_BITS = 1024  # of a whole number: what a float can hold, and far below what Python prints
MAX_VALUES = 50_000  # aliases multiply: nine lines of YAML can mean a billion values

Path = tuple[str | int, ...]
Values = dict[str, Any]  # a recipe as plain values, nested as in its file
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """YAML 1.2's core schema: `no` is a word, `1e-5` a number, `2026-01-01` a word."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML would not read as this text: `1e5` is a number in 1.2 alone, `no` a bool in 1.1."""

    def text(self, value: str) -> yaml.ScalarNode:
        # Only between double quotes does the emitter escape the line breaks that are not ASCII.
        style = '"' if re.search("[\x85\u2028\u2029]", value) else None
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _Dumper.text)
_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


@dataclass
class Document:
    """A parsed file: plain values, and the (line, column) of each key and value, counted from 1."""

    value: Any
    file: str
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    overrides: dict[Path, str] = field(default_factory=dict)

    def problem(self, path: Path, text: str) -> Problem:
        """A problem at `path`, or at the nearest parent that the file (or a `--set`) has."""
        for n in range(len(path), 0, -1):
            if path[:n] in self.overrides:
                return Problem(file=f"--set {self.overrides[path[:n]]}", field=dotted(path), text=text)
        known = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in self.places), ())
        line, column = self.places.get(known, (1, 1))
        return Problem(file=self.file, line=line, column=column, field=dotted(path), text=text)


def dotted(path: Path) -> str:
    """`("data", "train", 0, "path")` as `data.train[0].path`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text.removeprefix("."))[:200]


def parse(data: bytes, file: str) -> Document:
    """Parse one YAML document.

    Raises:
        UserError: not UTF-8, not YAML, too large or deep, duplicate keys; each with its place.
    """
    if len(data) > MAX_BYTES:
        raise UserError(Problem(file=file, text=f"{len(data):,} bytes; a recipe has at most {MAX_BYTES:,}"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise UserError(
            Problem(file=file, line=line, column=column, text=f"byte {data[error.start]:#04x} is not UTF-8")
        ) from None
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd:
        line, column = text.count("\n", 0, odd.start()) + 1, odd.start() - text.rfind("\n", 0, odd.start())
        shown = f"character {odd.group()!r} is not allowed in YAML"
        raise UserError(Problem(file=file, line=line, column=column, text=shown))
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax_problem(error, file, text)) from None
    except yaml.reader.ReaderError as error:
        text = f"character {error.character!r} is not allowed in YAML"
        raise UserError(Problem(file=file, line=1, column=1, text=text)) from None
    except _TooDeep as error:
        raise UserError(
            Problem(file=file, line=error.line, column=1, text=f"nested more than {MAX_DEPTH} levels deep")
        ) from None
    document = Document(None, file, {(): (1, 1)})
    if node is not None:
        builder = _Builder(document)
        document.value = builder.build(node, ())
        if builder.problems:
            raise UserError(*builder.problems)
    return document


def parse_value(text: str) -> Any:
    """The value of `--set field=value`, read as YAML; text that is no YAML stays text."""
    try:
        return parse(text.encode(), "--set").value
    except UserError as error:
        if "more than 308 digits" in error.problems[0].text:
            raise
        return text


def comment_in(text: str) -> str:
    """What is to be said of a value of `--set` whose end YAML takes for a comment; "" where it takes none."""
    found = re.search(r"(?:^|\s)#.*", text)
    if not found or parse_value(text) != parse_value(text[: found.start()]):
        return ""
    return f"{found[0].strip()[:60]!r} is a comment to YAML; put the value in double quotes"


def dump(value: Any, *, flow: bool = False) -> str:
    """A value as YAML that `parse` reads as the same value; `flow`: on one line."""
    width = 10**6 if flow else 1000
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width, default_flow_style=flow)
    return text.removesuffix("\n").removesuffix("\n...") if flow else text


def compose(text: str) -> yaml.Node:
    """The nodes of a text that `parse` has read as a mapping, with their places in it."""
    node = yaml.compose(text, Loader=_Loader)
    assert node is not None
    return node


class _TooDeep(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _TooDeep(event.start_mark.line + 1)  # type: ignore[union-attr]
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _syntax_problem(error: yaml.MarkedYAMLError, file: str, source: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    text = ", ".join(part for part in (error.context, error.problem) if part) or "not YAML"
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", source)  # as YAML counts them
    if mark and any(re.match(r" *\t", line) for line in lines[mark.line : mark.line + 1]):
        text = "a tab begins this line; YAML is indented by blanks"
    if mark is None:
        return Problem(file=file, text=text)
    return Problem(file=file, line=mark.line + 1, column=mark.column + 1, text=f"not YAML: {text}")


class _Builder:
    """Turns nodes into values, noting places; collects all mistakes of the file."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.count += 1
        self.document.places.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
        if self.count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise UserError(self.document.problem(path, f"aliases expand to more than {MAX_VALUES:,} values"))
        if isinstance(node, yaml.MappingNode):
            return {key: self.build(value, (*path, key)) for key, value in self._items(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self.build(value, (*path, index)) for index, value in enumerate(node.value)]
        return self._scalar(node, path)

    def _items(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self._add((line, column), path, "a key must be a word")
                continue
            if key in seen:
                self._add((line, column), (*path, key), f"duplicate key; first given in line {seen[key]}")
                continue
            seen[key] = line
            self.document.places[(*path, key)] = (line, column)
            yield key, value

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        kind = node.tag.rpartition(":")[2]
        text = node.value
        try:
            if kind == "int":
                if re.fullmatch(r"[-+]?0[\d_]+", text):  # 8 and more with some readers of YAML, 10 with others
                    sign, digits = "-" * (text[0] == "-"), text.replace("_", "").lstrip("+-0") or "0"
                    self._add(self.document.places[path], path, f"{text[:80]} may be octal; write {sign}{digits[:80]}")
                    return None
                number = int(text.replace("_", ""), 0 if text.lower().startswith(("0x", "0o")) else 10)
                if number.bit_length() <= MAX_BITS:
                    return number
                self._add(self.document.places[path], path, "a number of more than 308 digits is not allowed")
                return None
            if kind == "float":
                return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            self._add(self.document.places[path], path, f"{text[:80]!r} is not a number")
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "null":
            return None
        if kind != "str":
            self._add(self.document.places[path], path, f"tag {node.tag[:80]!r} is not allowed in a recipe")
        return text

    def _add(self, place: tuple[int, int], path: Path, text: str) -> None:
        line, column = place
        self.problems.append(Problem(file=self.document.file, line=line, column=column, field=dotted(path), text=text))
