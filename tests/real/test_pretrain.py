"""Continued pre-training: every token of every document, on both backends, without a chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Prepared, Recipe, inside, losses

pytestmark = pytest.mark.real

DOCUMENTS = ["Bonds pay interest.\n\nShares may not. " * n for n in (1, 3, 9, 2, 5)] + ["债券按期付息。" * 4]
# The reference: documents and end tokens in one line, cut; and transformers' own loss over it.
BLOCKS = """
import json, sys, torch
from datasets import load_from_disk
from transformers import AutoModelForCausalLM, AutoTokenizer
model, data, documents = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
line = []
for text in json.loads(documents):
    line += tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
blocks = [line[n : n + 64] for n in range(0, len(line), 64)]
rows = load_from_disk(data)["train"]
assert [row["input_ids"] for row in rows] == blocks and [row["labels"][1:] for row in rows] == [b[1:] for b in blocks]
model, total, count = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval(), 0.0, 0
with torch.inference_mode():
    for block in blocks:
        ids = torch.tensor([block])
        total, count = total + float(model(ids, labels=ids).loss) * (len(block) - 1), count + len(block) - 1
print(len(blocks), total / count)
"""


# Tokenizers of words, whose ids stand here: what each puts around a text, and its end token.
WORDS = {"<s>": 0, "</s>": 1, "<unk>": 2, "bonds": 3, "pay": 4, "interest": 5, "shares": 6, "may": 7, "not": 8}
FAMILIES = {
    "Qwen's": ("$A", [3, 4, 5, 6, 7, 8, 1], [6, 7, 8, 1], [3, 1]),
    "Llama's": ("<s> $A", [0, 3, 4, 5, 6, 7, 8, 1], [0, 6, 7, 8, 1], [0, 3, 1]),
    "T5's": ("$A </s>", [3, 4, 5, 6, 7, 8, 1], [6, 7, 8, 1], [3, 1]),  # which ends each text by itself
    "BERT's": ("<s> $A </s>", [0, 3, 4, 5, 6, 7, 8, 1], [0, 6, 7, 8, 1], [0, 3, 1]),
}
MADE = """
import json, sys
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
words, directories = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for directory, around in directories.items():
    made = Tokenizer(WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single=around, special_tokens=[("<s>", 0), ("</s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(directory)
"""
READ = """
import json, sys
from datasets import load_from_disk
found = [[dict(row) for row in load_from_disk(path)["train"]] for path in sys.argv[1:]]
print(json.dumps(found))
"""


def test_blocks_of_tokenizers_that_begin_and_end_texts_in_their_way(
    prepared: Prepared, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    """Each document has one end, the tokenizer's own beginning, and stands behind the one before it."""
    texts = [long := "bonds pay interest shares may not", "shares may not", "bonds", long]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for name in FAMILIES:
        (tmp_path / name).mkdir()
        shutil.copy(tiny_model / "config.json", tmp_path / name)
    around = json.dumps({str(tmp_path / name): family[0] for name, family in FAMILIES.items()})
    inside(llamafactory_python, MADE, json.dumps(WORDS), around, cwd=tmp_path)
    for packing in (False, True):
        runs = {}
        for name in list(FAMILIES)[: 2 if packing else None]:
            value = {
                "backend": "llamafactory", "method": "pretrain", "model": {"path": str(tmp_path / name)},
                "data": {"train": [{"path": "rows.jsonl"}], "max_length": 8, "packing": packing},
                "training": {"max_steps": 1, "global_batch_size": 1},
            }  # fmt: skip
            (tmp_path / "r.yaml").write_text(json.dumps(value))
            runs[name], _ = prepared("r.yaml")
        paths = [str(run / "data/tokenized") for run in runs.values()]
        for name, rows in zip(runs, json.loads(inside(llamafactory_python, READ, *paths, cwd=tmp_path)), strict=True):
            _, first, second, third = FAMILIES[name]
            if packing:  # the longest first, each where it fits best
                packs = [[first], [first], [second, third]]
                assert sorted(map(_packed, rows)) == sorted(packs), name
                continue
            line = [*first, *second, *third, *first]
            blocks = [line[n : n + 8] for n in range(0, len(line), 8)]
            assert [row["input_ids"] for row in rows] == blocks, name
            assert [row["labels"] for row in rows] == [[-100, *block[1:]] for block in blocks], name


def _packed(row: dict[str, list[int]]) -> list[list[int]]:
    """The documents of a pack, by the number of each in the mask; every token but a document's first has loss."""
    numbers = range(1, max(row["attention_mask"]) + 1)
    found = []
    for number in numbers:
        own = [n for n, of in enumerate(row["attention_mask"]) if of == number]
        found.append([row["input_ids"][n] for n in own])
        assert [row["labels"][n] for n in own] == [-100, *found[-1][1:]]
        assert [row["position_ids"][n] for n in own] == list(range(len(own)))
    return found


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_documents_become_blocks_and_every_token_is_learned(
    backend: str, recipe: Recipe, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    """The first step's loss is that of transformers on the same blocks; the tokenizer has no chat template."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    (tmp_path / "others.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS[1:3]))
    value = {
        "backend": backend, "method": "pretrain", "model": {"path": str(base)}, "tuning": {"type": "full"},
        "data": {"train": [{"path": "rows.jsonl"}], "max_length": 64,
                 "validation": {"sources": [{"path": "others.jsonl"}]}},
        "training": {"max_steps": 2, "global_batch_size": 5, "micro_batch_size": 5, "warmup_ratio": 0},
        "eval": {"suites": ["perplexity"]},
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(value))
    done = recipe("run", "r.yaml")
    run = Path(done.stdout.splitlines()[-1])
    found = inside(
        llamafactory_python, BLOCKS, str(base), str(run / "data/tokenized"), json.dumps(DOCUMENTS), cwd=tmp_path
    )
    blocks, loss = found.split()
    assert int(blocks) == 5 and f"{blocks} sequences of 64 tokens" in done.stderr
    assert losses(run)[0] == pytest.approx(float(loss), abs=2e-5)
    metrics = json.loads((run / "eval/results.json").read_text())["metrics"]["perplexity"]
    assert metrics["n"] == 2 and metrics["failures"] == 0 and metrics["value"] > 1
