"""Chat templates in the style of 51 families, with conversations of every shape: ids, mask and notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import inside
from tests.recipes.families import FAMILIES
from tests.recipes.sweep import TEMPLATES

pytestmark = pytest.mark.real

SWEEP = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.recipes.sweep import differences
print(*differences(), sep="\\n")
"""


def test_every_template_has_its_reference() -> None:
    assert {file.stem for file in TEMPLATES.glob("*.jinja")} == set(FAMILIES)


def test_ids_mask_and_notes_equal_the_reference(llamafactory_python: Path, tmp_path: Path) -> None:
    """The reference puts each conversation together turn by turn, and tokenizes each reply from where it begins."""
    found = inside(llamafactory_python, SWEEP, str(Path(__file__).parents[2]), cwd=tmp_path)
    assert found.strip() == ""
