"""TruthfulQA's choices with a real model, and ROUGE with the real package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.real.conftest import inside

pytestmark = pytest.mark.real

QUESTIONS = [
    {
        "question": "Can a bank lose the money in your account?",
        "mc1_targets": {
            "Yes, though deposit insurance covers most of it.": 1,
            "No, never.": 0,
            "Banks own no money": 0,
        },
        "mc2_targets": {"Yes, though deposit insurance covers most of it.": 1, "It can": 1, "No, never.": 0, "是的": 1},
    },
    {
        "question": "Do shares always rise in the long run?",
        "mc1_targets": {"No.": 1, "Yes.": 0},
        "mc2_targets": {"No.": 1, "Not always; Japan's index took 34 years to return to its peak.": 1, "Yes.": 0},
    },
]

CHOICES = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
from eval.suites.truthfulqa_data import PRIMER
records = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
apart = []
def whole(text):
    ids = tokenizer(text)["input_ids"]
    return ids[:-1] if sys.argv[3] == "bos and eos" else ids
for record in records:
    prompt = f"{PRIMER}\\n\\nQ: {record['question']}\\nA:"
    start = len(whole(prompt))
    for choice in record["choices"]:
        ids = torch.tensor([whole(prompt + " " + choice["text"])])
        with torch.inference_mode():
            logp = model(ids).logits[0, start - 1 : -1].double().log_softmax(-1)
        apart.append(abs(float(logp.gather(-1, ids[0, start:, None]).sum()) - choice["logprob"]))
print(max(apart), len(apart))
"""


# A tokenizer that puts tokens around a text of itself, as those of Llama and Gemma (and BERT) do.
AROUND = """
import sys
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
single = "<|im_start|> $A <|im_end|>" if sys.argv[2] == "bos and eos" else "<|im_start|> $A"
special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|im_start|>", "<|im_end|>")]
tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=special)
tokenizer.save_pretrained(sys.argv[1])
"""


@pytest.mark.parametrize(
    "around", [*(pytest.param(one, marks=pytest.mark.slow) for one in ("nothing", "bos")), "bos and eos"]
)
def test_choices_equal_one_sequence_at_a_time(
    around: str, eval_python: Path, bundled_model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Within 1e-3 nat a choice, although primer and questions are computed once for all; a BOS is not left out."""
    model = bundled_model
    if around != "nothing":
        model = shutil.copytree(tiny_model, tmp_path / "model")
        inside(eval_python, AROUND, str(model), around, cwd=tmp_path)
    (tmp_path / "mc_task.json").write_text(json.dumps(QUESTIONS))
    spec = {
        "models": [{"name": "m", "path": str(model), "output": str(tmp_path)}],
        "suites": ["truthfulqa_mc"], "data": {"truthfulqa": str(tmp_path / "mc_task.json")}, "device": "cpu",
    }  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    inside(eval_python, "import sys; from eval.worker import main; sys.exit(main(['spec.json']))", cwd=tmp_path)
    out = inside(eval_python, CHOICES, str(model), str(tmp_path / "truthfulqa_mc.jsonl"), around, cwd=tmp_path)
    largest, count = out.split()
    assert float(largest) < 1e-3
    assert int(count) == 8
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    assert set(metrics) == {"truthfulqa.mc1", "truthfulqa.mc2"}
    assert all(m["n"] == 2 for m in metrics.values())


# Of the package rouge_score 0.1.2: prediction, reference, stemmed, rouge1, rouge2, rougeL.
ROUGES = [
    [
        "the cats were sitting on the mats",
        "a cat sat on the mat",
        True,
        0.6153846153846153,
        0.3636363636363636,
        0.6153846153846153,
    ],
    [
        "the cats were sitting on the mats",
        "a cat sat on the mat",
        False,
        0.30769230769230765,
        0.1818181818181818,
        0.30769230769230765,
    ],
    [
        "Rates rose, and bond prices fell.",
        "Bond prices fall when rates rise.",
        True,
        0.5,
        0.20000000000000004,
        0.3333333333333333,
    ],
    [
        "Rates rose, and bond prices fell.",
        "Bond prices fall when rates rise.",
        False,
        0.5,
        0.20000000000000004,
        0.3333333333333333,
    ],
    ["", "x", True, 0.0, 0.0, 0],
    ["", "x", False, 0.0, 0.0, 0],
    ["the the the", "the", True, 0.5, 0.0, 0.5],
    ["the the the", "the", False, 0.5, 0.0, 0.5],
    ["债券 bonds yield", "bonds yield much 债券", True, 0.8, 0.6666666666666666, 0.8],
    ["债券 bonds yield", "bonds yield much 债券", False, 0.8, 0.6666666666666666, 0.8],
    ["A U.S. 3.5% yield", "U.S. yields of 3.5 %", True, 0.8333333333333334, 0.4000000000000001, 0.6666666666666666],
    ["A U.S. 3.5% yield", "U.S. yields of 3.5 %", False, 0.6666666666666666, 0.4000000000000001, 0.6666666666666666],
    ["same text here", "same text here", True, 1.0, 1.0, 1.0],
    ["same text here", "same text here", False, 1.0, 1.0, 1.0],
]


def test_rouge_equals_that_of_rouge_score(eval_python: Path, tmp_path: Path) -> None:
    code = """
import json, sys
from eval.metrics.similarity import rouges
print(json.dumps([list(rouges(p, r, stem=s).values()) for p, r, s, *_ in json.loads(sys.argv[1])]))
"""
    found = json.loads(inside(eval_python, code, json.dumps(ROUGES), cwd=tmp_path))
    assert found == [row[3:] for row in ROUGES]
