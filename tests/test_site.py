"""The docs site's pages, before Sphinx reads them: whole, linked, and of nothing from elsewhere."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest

from docs import pages as site
from recipes import catalogue
from recipes.made import made
from recipes.schema import leaves
from runner.verbs import VERBS
from runner.verbs.parser import parser_with

PAGES = site.pages()


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, by a second way: GitHub's rule, word by word."""
    found = re.findall(r"^#+ (.*)$", site.FENCE.sub("", text), re.MULTILINE)
    kept = ("".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_") for title in found)
    return {title.replace(" ", "-") for title in kept}


def test_each_page_is_in_the_menu_once() -> None:
    shown = [re.sub(r".*<(.*)>", r"\1", name) + ".md" for names in site.MENU.values() for name in names]
    verbs = [f"verbs/{name}.md" for name in VERBS]
    assert sorted([*shown, *verbs, "index.md"]) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_each_link_of_a_page_leads_to_a_place(page: str) -> None:
    for _, target, anchor, _ in site.LINK.findall(site.FENCE.sub("", PAGES[page])):
        found = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        assert found in PAGES, f"{page}: {target}"
        assert not anchor or anchor[1:] in headings(PAGES[found]), f"{page}: {target}{anchor}"


def test_every_option_and_every_example_of_a_verb_is_on_its_page() -> None:
    for name, parser in site._choices(parser_with(VERBS)).items():
        page = PAGES[f"verbs/{name}.md"]
        for each in (parser, *site._choices(parser).values()):
            for action in each._actions:
                assert all(option in page for option in action.option_strings if option not in ("-h", "--help"))
        assert all(example in page for example in site.verb_of(name).EXAMPLES)


def test_every_field_and_every_recipe_is_described() -> None:
    for name, node in leaves().items():
        own = name.replace("data.validation.sources[]", "data.train[]")
        heading = re.search(rf"^#+ {re.escape(own)}\n\n(.+?)(?=\n#)", PAGES["recipe.md"], re.MULTILINE | re.DOTALL)
        assert heading, name
        plain = heading[1].replace("\\", "")
        assert ("default" in node) == ("- default:" in plain)
        assert all(str(value) in plain for value in node.get("enum", []) if value is not None)
    assert all(f"| `{name}` |" in PAGES["catalogue.md"] for name in (*catalogue(), *made()))


def test_commands_and_fields_lead_to_their_pages_but_not_within_code() -> None:
    text = "# `recipe run`\n`recipe run X` of `data.packing: true`, `recipe fly`\n```sh\n`recipe run`\n```\n"
    assert site._linked(text, "guides/a.md", {"data.packing": "recipe.md#datapacking"}) == (
        "# `recipe run`\n[`recipe run X`](../verbs/run.md) of [`data.packing: true`](../recipe.md#datapacking), "
        "`recipe fly`\n```sh\n`recipe run`\n```\n"
    )


def test_a_link_to_what_is_no_page_ends_the_build() -> None:
    with pytest.raises(SystemExit, match=r"docs/a\.md: \.\./runner/cli\.py is no page of the site"):
        site._moved("[x](../runner/cli.py)", "docs/a.md", {"docs/a.md": "a.md"})


@pytest.mark.parametrize(
    "loads",
    [
        '<script src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="//example.org/a.css" />',
        '<img alt="" src="http://example.org/a.png">',
        "<style>@import url('https://example.org/a.css');</style>",
        "<style>a { background: url(https://example.org/a.png) }</style>",
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(loads: str, tmp_path: Path) -> None:
    (tmp_path / "own.html").write_text('<script src="a.js"></script><a href="https://example.org">there</a>')
    assert site.from_elsewhere(tmp_path) == []
    (tmp_path / "other.html").write_text(loads)
    assert len(site.from_elsewhere(tmp_path)) == 1
