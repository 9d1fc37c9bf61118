"""`model.chat_template: chatml`: a base model without a template of its own is trained by one of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recipes.paths import TEMPLATES
from tests.real.conftest import Recipe, inside
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


TRAINED = """
import sys
from datasets import load_from_disk
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
for row in load_from_disk(sys.argv[2])["train"]:
    print(repr(tokenizer.decode([i for i, label in zip(row["input_ids"], row["labels"]) if label >= 0])))
"""


@pytest.mark.slow
def test_thinking_beside_a_reply_is_trained_where_the_template_writes_it(
    recipe: Recipe, base: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    reply = {"role": "assistant", "content": "Four.", "reasoning_content": "two and two"}
    rows = [{"messages": [{"role": "user", "content": "2 + 2?"}, reply]}]
    file = recipe_for(rows, tmp_path, base)
    run = Path(recipe("run", file, "--no-eval", "--set", "model.chat_template=qwen").stdout.splitlines()[-1])
    said = inside(llamafactory_python, TRAINED, str(base), str(run / "data/tokenized"), cwd=tmp_path)
    assert said.strip() == repr("<think>\ntwo and two\n</think>\n\nFour.<|im_end|>\n")
    done = recipe("run", file, "--no-eval", "--set", "model.chat_template=chatml")
    assert "note: the chat template takes the thinking out of the last reply: 1 row" in done.stderr
