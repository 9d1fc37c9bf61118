"""What the documents say is so: the support table, the commands, the recipe that is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters import support
from recipes import load_text
from runner.cli import _parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_support_table_is_the_generated_one() -> None:
    shown = README.split(support.BEGIN)[1].split(support.END)[0].strip()
    assert shown == support.table()


def test_the_recipe_of_the_readme_is_valid() -> None:
    text = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert text and load_text(text[1].encode(), Path("readme.yaml")).recipe.name == "qwen3_4b_financial"


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`recipe ([a-z]+)", README))))
def test_every_command_of_the_readme_exists(verb: str) -> None:
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([verb, "--help"])
    assert ended.value.code == 0


def test_every_file_that_the_documents_link_exists() -> None:
    for document in ROOT.glob("*.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), f"{document.name}: {link}"
