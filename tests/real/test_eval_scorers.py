"""Scorers with weights, on tiny random models of the real classes; and LongBench where the hub cannot be reached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import inside

pytestmark = pytest.mark.real

MODELS = """
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast
torch.manual_seed(0)
words = "[PAD] [UNK] [CLS] [SEP] [MASK] bonds fall when rates rise shares pay dividends".split()
shape = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 16}
for name, model in (("encoder", BertModel(BertConfig(**shape))),
                    ("bleurt", BertForSequenceClassification(BertConfig(**shape, num_labels=1))),
                    ("two", BertForSequenceClassification(BertConfig(**shape, num_labels=2)))):
    model.save_pretrained(name)
    BertTokenizerFast(vocab={word: n for n, word in enumerate(words)}).save_pretrained(name)
"""

# A tokenizer that adds nothing of its own: of an empty text there is no token.
BARE = """
import json
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
words = Tokenizer(WordLevel({"[UNK]": 0, "bonds": 1, "fall": 2}, unk_token="[UNK]"))
words.pre_tokenizer = Whitespace()
shape = {"vocab_size": 3, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
BertModel(BertConfig(**shape)).save_pretrained("bare")
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained("bare")
from eval.metrics.similarity import scorer, trigram_cosine
found = scorer("embedding:bare")
references = ["bonds fall", "", " "]
print(json.dumps([[f("", references), f("bonds fall", references)] for f in (
    found, scorer("rougeL"), lambda text, others: [trigram_cosine(text, other) for other in others])]))
"""

SCORES = """
import json, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from eval.metrics.similarity import scorer, weights_of
from recipes.errors import UserError
pair = "bonds fall when rates rise", ["shares pay dividends", "bonds fall when rates rise", "rates"]
model = AutoModelForSequenceClassification.from_pretrained("bleurt").eval()
tokenizer = AutoTokenizer.from_pretrained("bleurt")
with torch.inference_mode():
    direct = [float(model(**tokenizer(r, pair[0], return_tensors="pt")).logits) for r in pair[1]]
refused = []
for name in ("bleurt:encoder", "bleurt:two", "bleurt:nowhere", "embedding:nowhere"):
    try:
        scorer(name)
    except UserError as error:
        refused.append(str(error))
print(json.dumps({"bleurt": scorer("bleurt:bleurt")(*pair), "direct": direct, "refused": refused,
                  "embedding": scorer("embedding:encoder")(*pair),
                  "weights": [weights_of(n) for n in ("rougeL", "bleurt:bleurt", "embedding:encoder")]}))
"""

HUB = """
import os
os.environ["HF_HUB_OFFLINE"] = "1"
from eval.spec import Spec
from eval.suites import suite
from recipes.errors import UserError
for name in ("longbench", "qmsum", "truthfulqa", "truthfulqa_mc"):
    try:
        suite(name).load(Spec(models=(), suites=()), None, 0)
    except UserError as error:
        print(error)
"""

PARQUET = """
import json
import pyarrow as pa
from pyarrow.parquet import write_table
from eval.spec import Spec
from eval.suites.truthfulqa_data import questions
targets = {"choices": ["No", "Yes"], "labels": [1, 0]}
tables = {"truthfulqa_mc": {"mc1_targets": targets, "mc2_targets": targets},
          "truthfulqa": {"best_answer": "No", "correct_answers": ["No", "They cannot"], "incorrect_answers": ["Yes"]}}
for name, columns in tables.items():
    write_table(pa.Table.from_pylist([{"question": "Can pigs fly?"} | columns]), name + ".parquet")
    spec = Spec(models=(), suites=(), data={name: name + ".parquet"})
    (asked,), _ = questions(spec, name, choices=name == "truthfulqa_mc")
    print(json.dumps([asked.get("mc2_targets"), asked["correct"], asked["incorrect"]]))
"""


def test_scorers_with_weights_score_as_their_models_do(eval_python: Path, tmp_path: Path) -> None:
    """And weights that are missing, which transformers would draw at random, are refused."""
    inside(eval_python, MODELS, cwd=tmp_path)
    found = json.loads(inside(eval_python, SCORES, cwd=tmp_path).splitlines()[-1])
    assert found["bleurt"] == pytest.approx(found["direct"], abs=1e-5)
    assert found["embedding"][1] == pytest.approx(1.0, abs=1e-5) and found["embedding"][0] < 0.999
    assert found["weights"][0] is None and len(set(found["weights"])) == 3
    assert "encoder lacks the weights of classifier" in found["refused"][0]
    assert "two is no BLEURT: it has 2 outputs" in found["refused"][1]
    assert found["refused"][2:] == ["scorer: nowhere: no such directory"] * 2


def test_an_empty_text_is_like_nothing(eval_python: Path, tmp_path: Path) -> None:
    """Not even like another, to each scorer without weights and to an encoder that gets no token of it."""
    for empty, said in json.loads(inside(eval_python, BARE, cwd=tmp_path).splitlines()[-1]):
        assert empty == [0.0, 0.0, 0.0]
        assert said == pytest.approx([1.0, 0.0, 0.0], abs=1e-5)


def test_without_data_and_hub_a_suite_says_what_it_wants(eval_python: Path, tmp_path: Path) -> None:
    said = inside(eval_python, HUB, cwd=tmp_path, env={"HF_HUB_OFFLINE": "1"}).splitlines()
    reasons = (": no data is given", "could not be downloaded from the Hub")
    assert len(said) == 4 and all(reason in line for line in said for reason in reasons)
    assert "mc_task.json or TruthfulQA.csv" in said[3]


def test_truthfulqa_is_read_from_the_hubs_tables(eval_python: Path, tmp_path: Path) -> None:
    choices, answers = map(json.loads, inside(eval_python, PARQUET, cwd=tmp_path).splitlines())
    assert choices == [{"No": 1, "Yes": 0}, ["No"], ["Yes"]]
    assert answers == [None, ["No", "They cannot"], ["Yes"]]
