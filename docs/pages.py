"""The pages of the docs site: the documents as they stand, and those made from the parsers, the schema, the catalogue.

    python -m docs.pages TARGET     # what `make docs` calls, in an environment with the extra `docs`

Sphinx with MyST builds them, strictly: a link that leads nowhere is an error. So is, here, a page that would load
anything from elsewhere. What is made is not committed: it says what the code says at the time of the build.
"""

from __future__ import annotations

import argparse
import json
import os
import posixpath
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from recipes.files import write_text
from recipes.schema import Node, allowed, leaves, schema
from runner.training import listing
from runner.verbs import VERBS
from runner.verbs.parser import parser_with, verb_of

ROOT = Path(__file__).parent.parent
# The documents at the top, and what they are called on the site.
TOP = {
    "README.md": "index.md",
    "README.zh.md": "zh.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
# What a link to a directory leads to: its first page.
FIRST = {"docs/guides": "docs/guides/which_method.md"}
# What the menu shows, in this order; a document that is in none is an error of the build.
MENU = {
    "Begin": ("first_hour", "中文 <zh>"),
    "Guides": (
        "guides/which_method",
        "guides/own_data",
        "guides/own_reward",
        "guides/out_of_memory",
        "guides/slow",
        "guides/loss_does_not_fall",
        "guides/over_fitting",
        "guides/several_gpus",
        "guides/several_nodes",
        "guides/from_llamafactory",
        "guides/from_axolotl",
    ),
    "Reference": ("verbs/index", "recipe", "catalogue"),
    "In depth": (
        "data",
        "evaluation",
        "runs",
        "going_on",
        "sweeps",
        "grpo",
        "export",
        "launch",
        "memory",
        "gpu",
        "parity",
    ),
    "The project": ("results", "decisions", "contributing", "security", "changelog"),
}
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]*)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^(```.*?^```[^\n]*$|<!--.*?-->)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<![\[`])`([^`\n]+)`(?![`\]])")
ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//"
    r"|<link\b(?![^>]*\brel=\"(?:canonical|index|search|next|prev)\")[^>]*\bhref=\"(?:https?:)?//"
    r"|@import\s+(?:url\()?[\"']?(?:https?:)?//|url\([\"']?(?:https?:)?//"
)


def pages() -> dict[str, str]:
    """Every page's Markdown by its path on the site, such as `verbs/run.md`."""
    documents = {**TOP, **{str(path): str(path.relative_to("docs")) for path in _documents()}}
    made = {**dict(_verbs()), "recipe.md": _fields(), "catalogue.md": _catalogue()}
    own = {
        page: _moved((ROOT / document).read_text(encoding="utf-8"), document, documents)
        for document, page in documents.items()
    }
    fields = {name: f"recipe.md#{_slug(_once(name))}" for name in leaves()}
    linked = {page: _linked(text, page, fields) for page, text in {**own, **made}.items()}
    return {**linked, "index.md": linked["index.md"] + _menu()}


def _documents() -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))


def _moved(text: str, document: str, documents: dict[str, str]) -> str:
    """`text` with its links to other documents as they are on the site."""
    page = documents[document]

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(document), match[2]))
        target = FIRST.get(target, target)
        if target not in documents:
            raise SystemExit(f"{document}: {match[2]} is no page of the site; allowed: {', '.join(documents)}")
        return f"{match[1]}{_relative(documents[target], page)}{match[3] or ''}{match[4]}"

    return LINK.sub(moved, text)


def _linked(text: str, page: str, fields: dict[str, str]) -> str:
    """`text` whose `recipe VERB …` and `section.field` lead to their pages, but in blocks of code and in headings."""

    def linked(match: re.Match[str]) -> str:
        words = match[1].split()
        if words[0] == "recipe" and len(words) > 1 and words[1] in VERBS:
            return f"[{match[0]}]({_relative(f'verbs/{words[1]}.md', page)})"
        field = words[0].removesuffix(":")
        if field in fields and (len(words) == 1 or words[0].endswith(":")):
            return f"[{match[0]}]({_relative(fields[field], page)})"
        return match[0]

    def line(text: str) -> str:
        return text if text.startswith("#") else CODE.sub(linked, text)

    parts = FENCE.split(text)  # text, block, text, …
    return "".join(part if n % 2 else "".join(map(line, part.splitlines(True))) for n, part in enumerate(parts))


def _relative(target: str, page: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def _menu() -> str:
    trees = (_toctree(names, caption) for caption, names in MENU.items())
    return "\n" + "\n".join(trees)


def _toctree(names: tuple[str, ...], caption: str = "") -> str:
    options = [":hidden:", f":caption: {caption}"] if caption else [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *names, "```", ""])


def _verbs() -> Iterator[tuple[str, str]]:
    """A page for each verb, and one that lists them."""
    parser = parser_with(VERBS)
    verbs = _choices(parser)
    lines = ["# Commands", "", f"{parser.description}", "", "| command | what it does |", "|---|---|"]
    lines += [f"| [`recipe {name}`]({name}.md) | {_cell(text)} |" for name, text in VERBS.items()]
    lines += ["", "Exit codes: 0 done, 1 a step failed, 2 a mistake in the recipe, data or command line, 3 a gate that"]
    lines += ["cannot tell, 130 stopped with Ctrl-C.", "", "```{toctree}", ":hidden:", "", *VERBS, "```", ""]
    yield "verbs/index.md", "\n".join(lines)
    for name in VERBS:
        text = [f"# recipe {name}", "", *_described(verbs[name])]
        text += ["## Examples", "", "```sh", *verb_of(name).EXAMPLES, "```", ""]
        yield f"verbs/{name}.md", "\n".join(text)


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's verbs, by name; {} where it has none."""
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def _described(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What the help says, but the examples: description, usage, arguments, then the same of each verb below."""
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)
    own = _choices(parser)
    yield from (_text(parser.description), "", "```text", parser.format_usage().strip(), "```", "")
    shown = [action for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]
    rows = [_argument(action) for action in shown if not isinstance(action, argparse._SubParsersAction)]
    if rows:
        yield from ("| argument | what it does |", "|---|---|", *rows, "")
    epilog = (parser.epilog or "").split("examples:\n")[0].strip()
    if epilog:
        yield from (_text(epilog), "")
    texts = {
        choice.dest: choice.help
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    }
    for name, sub in own.items():
        text = texts.get(name) or name
        sub.description = sub.description or f"{text[0].upper()}{text[1:]}."
        yield from (f"## {sub.prog}", "", *_described(sub))


def _argument(action: argparse.Action) -> str:
    """A row of the table: `-o FILE`, `--output FILE`, and its help."""
    value = action.metavar if action.metavar is not None else ("|".join(map(str, action.choices or ())))
    value = "" if action.nargs == 0 else str(value or action.dest.upper())
    value += {"*": "…", "+": "…", argparse.REMAINDER: "…"}.get(str(action.nargs), "")
    names = [f"{option} {value}".strip() for option in action.option_strings] or [value]
    help_text = (action.help or "") % {**vars(action), "prog": "recipe"}
    required = " (required)" if action.required and action.option_strings else ""
    return f"| {', '.join(f'`{_cell(name)}`' for name in names)} | {_cell(_text(help_text))}{required} |"


def _fields() -> str:
    """The reference of the recipe: each field with what it may be, its default and what it says."""
    lines = ["# Recipe fields", "", f"{schema()['description']} `recipe schema` prints the JSON Schema that this page"]
    lines += ["is made of; `recipe validate` checks a file against it, and against what one field asks of others.", ""]
    sections: set[str] = set()
    for name, node in leaves().items():
        if name != _once(name):
            continue
        section = name.split(".")[0]
        if section not in sections and section != name:
            lines += [f"## {section}", "", _text(schema()["properties"][section]["description"]), ""]
        elif section not in sections:
            lines += [f"## {section}", ""]
        sections.add(section)
        if section != name:
            lines += [f"### {name}", ""]
        lines += [_text(node.get("description", "")), "", *_values(node), ""]
        if name == "data.validation.fraction":
            held_out = schema()["properties"]["data"]["properties"]["validation"]["properties"]["sources"]
            lines += ["### data.validation.sources", "", _text(held_out["description"]), ""]
            lines += ["Each has the fields of `data.train[]`, above.", ""]
    stages = schema()["properties"]["stages"]
    lines += ["## stages", "", _text(stages["description"]), ""]
    return "\n".join(lines)


def _once(name: str) -> str:
    """Where a field is described: those of a source stand under `data.train[]`, whichever sources it is of."""
    return name.replace("data.validation.sources[]", "data.train[]")


def _values(node: Node) -> Iterator[str]:
    kind = allowed(node)
    items = node.get("items", {})
    if items and "x-allowed" not in node:
        kind += f" of: {allowed(items)}" if items.get("enum") or items.get("x-allowed") or items.get("type") else ""
    yield f"- may be: {_text(kind)}"
    if "default" in node:
        yield f"- default: `{json.dumps(node['default'], ensure_ascii=False)}`"
    yield from (f"- `{value}`: {_text(reason)}" for value, reason in node.get("x-reasons", {}).items())


def _catalogue() -> str:
    """Every recipe that comes with the package."""
    lines = [
        "# Catalogue",
        "",
        "What `recipe list` prints. With `--gpu 24GB` it says which fit, with memory and time; `recipe new NAME`",
    ]
    lines += ["copies one to a file of your own.", "", "| recipe | backend | method | tuning | model |"]
    lines += ["|---|---|---|---|---|"]
    rows = listing.rows()
    lines += [f"| `{row.name}` | {row.backend} | {row.method} | {row.tuning} | {_text(row.model)} |" for row in rows]
    return "\n".join([*lines, ""])


def _slug(heading: str) -> str:
    """A heading's anchor, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _text(text: str | None) -> str:
    """Plain text as Markdown: what would be markup stands for itself, but code in backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text or "")
    return "".join(part if n % 2 else re.sub(r"([\\*_<>\[\]#{}$])", r"\\\1", part) for n, part in enumerate(parts))


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def from_elsewhere(site: Path) -> list[str]:
    """What pages of a built site would load from another address, each with its file."""
    return [
        f"{path.relative_to(site)}: {match[0]}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css")
        for match in ELSEWHERE.finditer(path.read_text(encoding="utf-8"))
    ]


def main() -> int:
    """Build the site in the directory that is named, anew."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        for name, text in pages().items():
            write_text(Path(directory) / name, text)
        command = [sys.executable, "-m", "sphinx", "-q", "-E", "-a", "-W", "--keep-going", "-b", "html"]
        command += ["-c", str(ROOT / "docs"), "-d", f"{directory}/.doctrees", directory, str(target)]
        code = subprocess.run(command, check=False, env={**os.environ, "PYTHONUTF8": "1"}).returncode
    if code:
        return code
    loaded = from_elsewhere(target)
    for line in loaded:
        print(f"loaded from elsewhere: {line}", file=sys.stderr)
    print(target / "index.html")
    return 1 if loaded else 0


if __name__ == "__main__":
    sys.exit(main())
