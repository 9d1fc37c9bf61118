"""`model.chat_template: chatml`: a base model without a template of its own is trained by one of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recipes.paths import TEMPLATES
from tests.real.conftest import Recipe
from tests.real.test_data import alpaca, recipe_for

pytestmark = pytest.mark.real


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(tiny_model, tmp_path / "base")
    (copy / "chat_template.jinja").unlink()
    return copy


def test_a_model_without_a_template_is_told_those_that_fit_its_tokens(
    recipe: Recipe, base: Path, tmp_path: Path
) -> None:
    file = recipe_for([alpaca(1), alpaca(2)], tmp_path, base)
    said = recipe("run", file, "--no-eval", code=2).stderr
    assert "has no chat template; give one as model.chat_template: chatml, qwen, alpaca, " in said
    assert "llama3" not in said and "gemma" not in said
    said = recipe("run", file, "--no-eval", "--set", "model.chat_template=llama3", code=2).stderr
    assert "model.chat_template: llama3: this tokenizer has no token <|end_header_id|> or <|eot_id|> or " in said


def test_what_was_trained_with_is_saved(recipe: Recipe, base: Path, tmp_path: Path) -> None:
    file = recipe_for([alpaca(1), alpaca(2)], tmp_path, base)
    done = recipe("run", file, "--no-eval", "--set", "model.chat_template=alpaca")
    run = Path(done.stdout.splitlines()[-1])
    assert (run / "model/chat_template.jinja").read_text() == (TEMPLATES / "alpaca.jinja").read_text()
    assert json.loads((run / "data/accounting.json").read_text())["trained"] == 2
