"""Tool calls by chat templates of seven kinds, on conversations made at random, and what knows no calls."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import Recipe, inside
from tests.real.test_data import recipe_for
from tests.real.test_named_templates import TRAINED

TEMPLATES = Path(__file__).parents[1] / "tool_templates"
THOROUGH = bool(os.environ.get("RECIPE_THOROUGH"))
pytestmark = pytest.mark.real

SWEEP = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.recipes.tool_sweep import differences
print(*differences(int(sys.argv[2])), sep="\\n")
"""


@pytest.mark.thorough
def test_ids_and_mask_of_tool_calls_equal_the_reference(llamafactory_python: Path, tmp_path: Path) -> None:
    count = "2000" if THOROUGH else "60"
    found = inside(llamafactory_python, SWEEP, str(Path(__file__).parents[2]), count, cwd=tmp_path)
    assert found.strip() == ""


def talk(price: int) -> dict[str, Any]:
    call = json.dumps({"name": "price", "arguments": {"of": f"Bond {price}"}})
    answer = [("observation", str(price)), ("gpt", f"It costs {price}.")]
    turns = [("human", "What does it cost?"), ("function_call", call), *answer]
    tools = json.dumps([{"name": "price", "description": "Looks it up.", "parameters": {"type": "object"}}])
    return {"conversations": [{"from": who, "value": said} for who, said in turns], "tools": tools}


def test_calls_are_trained_on_scored_and_answered(
    recipe: Recipe, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    file = recipe_for([talk(n) for n in (3, 5, 7, 9)], tmp_path, tiny_model, validation={"fraction": 0.25})
    template = f"model.chat_template={TEMPLATES / 'qwen.jinja'}"
    suites = "eval.suites=[perplexity, generation]"
    run = Path(recipe("run", file, "--set", template, "--set", suites).stdout.splitlines()[-1])
    trained = inside(llamafactory_python, TRAINED, str(run / "model"), str(run / "data/tokenized"), cwd=tmp_path)
    assert trained.count("price") == 3 and trained.count("It costs") == 3 and "observation" not in trained
    assert "tool_response" not in trained and "Looks it up" not in trained
    results = json.loads((run / "eval/results.json").read_text())["metrics"]
    assert results["perplexity"]["n"] == 1 and results["perplexity"]["failures"] == 0
    assert results["generation.tokens"]["failures"] == 0


@pytest.mark.thorough
@pytest.mark.parametrize(
    "template,packing",  # arguments as an object, and as text
    [("qwen", True), pytest.param("deepseek", False, marks=pytest.mark.slow)],
)
def test_a_row_with_tools_is_shown_as_it_was_trained(
    recipe: Recipe, tiny_model: Path, tmp_path: Path, template: str, packing: bool
) -> None:
    """By the preview, which reads the sources anew, and not what the backend read.

    With deepseek's template this tokenizer has a token over the border of prompt and call, where training cuts: what
    asks for the next reply has it whole.
    """
    # Of different lengths, so that packs do not hold the rows in their order.
    rows = [{**talk(n), "system": "Be brief. " * (n * 7 % 5)} for n in range(6)]
    file = recipe_for(rows, tmp_path, tiny_model, validation={"fraction": 0.2}, packing=packing, max_length=400)
    given = ["--set", f"model.chat_template={TEMPLATES / template}.jinja"]
    run = recipe("run", file, "--name", "r", "--no-eval", *given).stdout.splitlines()[-1]
    equal = template == "qwen"
    first = recipe("tokens", "r", code=int(not equal)).stdout
    assert f"transformers: {8 if equal else 4} of 8 prompts are as they were trained" in first
    for row in (1, 3, 5) if THOROUGH else (3,):
        shown = recipe("tokens", "r", "--row", str(row), code=int(not equal)).stdout
        found = json.loads(recipe("data", "preview", file, "--row", str(row), "--diff", "--json", *given).stdout)
        (part,) = found["parts"]
        wanted = {
            f"row {row}, turn {one['turn']}: token {one['at'] + 1} of {len(one['trained'])}"
            for one in found["asked"]
            if one["trained"] != one["asked"]
        }
        assert {
            line.strip().partition(": trained")[0] for line in shown.splitlines() if "trained behind" in line
        } == wanted
        assert f"transformers: {2 - len(wanted)} of 2 prompts" in shown and bool(wanted) != equal
        table = [line.split(maxsplit=2) for line in shown.splitlines() if line[:8].strip().isdigit() and "  " in line]
        assert [int(line[0]) for line in table] == part["ids"]
        assert [line[1] == "loss" for line in table] == part["loss"]
    assert "no training row 6: " in recipe("tokens", "r", "--row", "6", code=2).stderr
    file_of = Path(run) / "model/chat_template.jinja"
    file_of.write_text(file_of.read_text() + "{{ ' again' if add_generation_prompt }}")
    shown = recipe("tokens", "r", "--row", "2", code=1).stdout
    assert "transformers: 0 of 2" in shown and shown.count("transformers asks for turn ") == 2


def test_a_template_that_knows_no_calls_is_refused_with_the_row(
    recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    row = talk(3)
    file = recipe_for([row, {**row, "tools": ""}], tmp_path, tiny_model)
    said = recipe("run", file, "--set", f"model.chat_template={TEMPLATES / 'none.jinja'}", code=2).stderr
    assert "rows.jsonl:1: the chat template does not tell the model its `tools`" in said
    assert "rows.jsonl:2: the chat template does not write tool calls" in said
