"""LongBench as training data: the official prompts, references as replies, the middle cut as at evaluation."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from eval.suites.longbench_prompts import definitions
from tests.real.conftest import Prepared, Recipe, inside
from tests.real.test_named_templates import TRAINED

pytestmark = pytest.mark.real


SWEEP = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.recipes.longbench_sweep import cuts, prompts
print(*prompts(), *cuts(40), sep="\\n")
"""


def test_prompts_and_cuts_have_the_ids_and_mask_of_the_reference(llamafactory_python: Path, tmp_path: Path) -> None:
    """Five subsets' prompts as written by hand, and conversations cut as a search finds it, by four families."""
    assert inside(llamafactory_python, SWEEP, str(Path(__file__).parents[2]), cwd=tmp_path).strip() == ""


def rows(subset: str, count: int, words: int) -> list[dict[str, Any]]:
    return [
        {"input": f"Question {n}?", "context": " ".join(f"w{n}-{k}" for k in range(words)), "dataset": subset,
         "answers": [f"First answer {n}.", f"Second answer {n}."], "all_classes": None, "length": words, "_id": f"{n}"}
        for n in range(count)
    ]  # fmt: skip


def write(directory: Path, subsets: dict[str, list[dict[str, Any]]]) -> Path:
    directory.mkdir(parents=True)
    for name, found in subsets.items():
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return directory


def recipe_file(tmp_path: Path, model: Path, source: dict[str, Any], **fields: Any) -> str:
    value = {
        "backend": "llamafactory", "method": "sft", "model": {"path": str(model)},
        "data": {"train": [{"format": "longbench", **source}], "max_length": 512, "overlong": "middle"},
        "training": {"max_steps": 2, "global_batch_size": 1}, **fields,
    }  # fmt: skip
    (tmp_path / "lb.yaml").write_text(json.dumps(value))
    return "lb.yaml"


def test_training_on_subsets_is_scored_on_truthfulqa_and_qmsum_every_step(
    recipe: Recipe, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    write(
        tmp_path / "lb",
        {"qasper": rows("qasper", 2, 20), "hotpotqa": rows("hotpotqa", 2, 600), "qasper_e": rows("x", 9, 5)},
    )
    meetings = write(tmp_path / "qmsum", {"qmsum": rows("qmsum", 2, 30)})
    (tmp_path / "TruthfulQA.csv").write_text(
        "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        "A,B,What is a bond?,A loan.,A loan.; A kind of loan.,A share.; A bank.,x\n"
    )
    scored = {
        "suites": ["truthfulqa", "qmsum"], "every": 1, "max_new_tokens": 4, "max_samples": 1, "base": False,
        "data": {"qmsum": str(meetings / "qmsum.jsonl"), "truthfulqa": str(tmp_path / "TruthfulQA.csv")},
    }  # fmt: skip
    source = {"path": "lb", "subsets": ["hotpotqa", "qasper"], "answers": "all"}
    run = Path(recipe("run", recipe_file(tmp_path, tiny_model, source, eval=scored)).stdout.splitlines()[-1])
    accounting = json.loads((run / "data/accounting.json").read_text())
    assert accounting["trained"] == 8 and accounting["truncated_of_trained"] == 4 and accounting["longest"] <= 512
    trained = inside(llamafactory_python, TRAINED, str(run / "model"), str(run / "data/tokenized"), cwd=tmp_path)
    replies = sorted(line.strip("'").split("<|im_end|>")[0] for line in trained.splitlines())
    assert replies == sorted(
        f"{which} answer {n}." for which in ("First", "Second") for n in range(2) for _ in range(2)
    )
    written = [json.loads(line)["messages"][-2]["content"] for line in (run / "data/train.jsonl").open()]
    template = definitions()[0]["qasper"]
    assert template.format(context=rows("", 2, 20)[1]["context"], input="Question 1?") in written
    cut = next(text for text in written if "Question 0?" in text and len(text) > 600)
    whole = definitions()[0]["hotpotqa"].format(context=rows("", 1, 600)[0]["context"], input="Question 0?")
    assert len(cut) < len(whole) and cut[:200] == whole[:200] and cut[-200:] == whole[-200:]
    history = json.loads((run / "eval/eval_history.json").read_text())
    assert [entry["step"] for entry in history["history"]] == [1, 2]


def test_the_archive_is_read_and_what_is_not_there_is_named(
    recipe: Recipe, prepared: Prepared, tiny_model: Path, tmp_path: Path
) -> None:
    directory = write(tmp_path / "files", {"samsum": rows("samsum", 3, 5), "samsum_e": rows("samsum", 3, 5)})
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        for file in directory.iterdir():
            packed.write(file, f"data/{file.name}")
    _, said = prepared(recipe_file(tmp_path, tiny_model, {"path": "data.zip"}))
    assert "3 rows = 3 trained" in said
    said = recipe(
        "validate", recipe_file(tmp_path, tiny_model, {"path": "data.zip", "subsets": ["qmsum"]}), code=2
    ).stderr
    assert "longbench: no subset 'qmsum'" in said
    bad = write(tmp_path / "bad", {"samsum": [{"input": "x", "context": "y"}]})
    said = recipe("run", recipe_file(tmp_path, tiny_model, {"path": str(bad)}), code=2).stderr
    assert "samsum.jsonl:1: `answers`: expected a list of texts" in said


@pytest.mark.slow
def test_training_on_what_is_scored_is_named(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    meetings = rows("qmsum", 3, 30)
    for n, row in enumerate(meetings):
        row["answers"] = [" ".join(f"word{n}x{k}" for k in range(20))]
    write(tmp_path / "lb", {"qmsum": meetings, "samsum": rows("samsum", 2, 30)})
    write(tmp_path / "scored", {"qmsum": meetings[:2]})
    scored = {"suites": ["qmsum"], "data": {"qmsum": str(tmp_path / "scored/qmsum.jsonl")}}
    file = recipe_file(tmp_path, tiny_model, {"path": "lb"}, eval=scored)
    said = recipe("run", file, "--no-eval").stderr
    told = "holds a question or reference of the suite qmsum, by which the recipe is scored"
    assert f"note: contamination: {told}: 2 rows" in said
    said = recipe("run", file, "--no-eval", "--set", "data.contamination=drop").stderr
    assert f"5 rows = 3 trained + 2 dropped (contamination: {told})" in said
    assert "warning: 2 of 5 rows are dropped" in said
