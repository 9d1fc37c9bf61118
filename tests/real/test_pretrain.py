"""Continued pre-training: every token of every document, on both backends, without a chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Recipe, inside, losses

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
