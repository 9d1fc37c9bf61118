"""Chat templates of 51 families' kind and those that are shipped, on conversations of every shape: ids, mask, notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import inside
from tests.recipes.families import FAMILIES, SHIPPED
from tests.recipes.sweep import OURS, TEMPLATES

pytestmark = pytest.mark.real

SWEEP = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.recipes.sweep import differences
print(*differences(), sep="\\n")
"""

ROWS = SWEEP.replace("recipes.sweep", "recipes.row_sweep")
THOUGHTS = SWEEP.replace("recipes.sweep", "recipes.thought_sweep").replace("differences()", "differences(100)")


def test_every_template_has_its_reference() -> None:
    assert {file.stem for file in TEMPLATES.glob("*.jinja")} == set(FAMILIES)
    assert {file.stem for file in OURS.glob("*.jinja")} == set(SHIPPED)


def test_ids_mask_and_notes_equal_the_reference(llamafactory_python: Path, tmp_path: Path) -> None:
    """The reference puts each conversation together turn by turn, and tokenizes each reply from where it begins."""
    found = inside(llamafactory_python, SWEEP, str(Path(__file__).parents[2]), cwd=tmp_path)
    assert found.strip() == ""


def test_rows_of_every_shape_have_the_ids_and_mask_of_what_they_mean(llamafactory_python: Path, tmp_path: Path) -> None:
    """Pairs, feedback, prompts, merged turns and columns, through the pass of a preparation, by four families."""
    found = inside(llamafactory_python, ROWS, str(Path(__file__).parents[2]), cwd=tmp_path)
    assert found.strip() == ""


def test_thinking_beside_a_reply_is_kept_where_the_template_writes_it(
    llamafactory_python: Path, tmp_path: Path
) -> None:
    """Under the name that the template reads, with loss from where the generation prompt ends; the rest is counted."""
    found = inside(llamafactory_python, THOUGHTS, str(Path(__file__).parents[2]), cwd=tmp_path)
    assert found.strip() == ""
