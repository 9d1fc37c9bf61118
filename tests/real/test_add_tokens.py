"""`model.add_tokens`: one token each in the rows, with embeddings that are trained, kept, merged and scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import Recipe, inside

pytestmark = pytest.mark.real

TOKENS = ["<ticker>", "<isin>"]
LOOK = """
import json, sys, torch
from datasets import load_from_disk
from eval.engines.loading import adapted, load_whole
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
run, base, tokens = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
tokenizer, old = (AutoTokenizer.from_pretrained(path) for path in (run / "model", base))
ids = tokenizer.convert_tokens_to_ids(tokens)
rows = load_from_disk(str(run / "data/tokenized"))["train"]["input_ids"]
text = " ".join(tokenizer.decode(row) for row in rows)
lora = (run / "model/adapter_config.json").is_file()
model = adapted(load_whole(base), run / "model") if lora else AutoModelForCausalLM.from_pretrained(run / "model")
begun = load_whole(base).get_input_embeddings().weight
weight = model.get_input_embeddings().weight
print(json.dumps({
    "old": [len(old(one, add_special_tokens=False)["input_ids"]) for one in tokens],
    "new": [tokenizer(one, add_special_tokens=False)["input_ids"] == [n] for one, n in zip(tokens, ids)],
    "counted": [sum(row.count(n) for row in rows) == text.count(one) > 0 for one, n in zip(tokens, ids)],
    "rows": [len(begun), len(weight), len(tokenizer)],
    "moved": float((weight[: len(begun)] - begun).abs().max()),
}))
"""


@pytest.mark.parametrize("tuning", [pytest.param("lora", marks=pytest.mark.slow), "full"])
def test_added_tokens_go_where_the_model_goes(
    tuning: str, recipe: Recipe, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    # Replies of one length: the trainer's loss is the mean of its batches, and not of all tokens.
    rows = [{"prompt": f"{n}. What is <ticker>?", "response": "A share <isin>, not <ticker>."} for n in range(16)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    value = {
        "backend": "llamafactory",
        "method": "sft",
        "model": {"path": str(tiny_model), "add_tokens": TOKENS},
        "tuning": {"type": tuning},
        "data": {"train": [{"path": "rows.jsonl"}], "validation": {"fraction": 0.25}, "max_length": 128},
        "training": {"max_steps": 4, "global_batch_size": 4, "learning_rate": 1e-2},
        "checkpoint": {"every": 2},
        "eval": {"suites": ["perplexity"], "loss_every": 2},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(value))
    run = Path(recipe("run", "r.yaml").stdout.splitlines()[-1])
    found = json.loads(
        inside(llamafactory_python, LOOK, str(run), str(tiny_model), *TOKENS, cwd=tmp_path).splitlines()[-1]
    )
    assert min(found["old"]) > 1 and all(found["new"]) and all(found["counted"])
    before, after, tokens = found["rows"]
    assert before < tokens <= after and after % 64 == 0
    assert found["moved"] > 1e-3, "embeddings are trained"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line["eval_loss"] for line in lines if "eval_loss" in line][-1]  # of the trainer itself, in memory
    tuned, base = (json.loads((run / name).read_text()) for name in ("eval/results.json", "eval/base/results.json"))
    assert tuned["metrics"]["test_loss"]["value"] == pytest.approx(last, rel=1e-4)
    assert base["metrics"]["test_loss"]["n"] == tuned["metrics"]["test_loss"]["n"], "read by the base's own tokens"
    if tuning == "lora":
        merged = Path(recipe("merge", run.name).stdout.strip())
        assert json.loads((merged / "merge.json").read_text())["compared"]["largest_difference_nat"] < 1e-4
        done = recipe("eval", "--model", str(merged), "--data", str(run / "data/validation.jsonl"), "--json")
        assert json.loads(done.stdout)["metrics"]["test_loss"]["value"] == pytest.approx(last, rel=1e-4)


def test_a_token_that_is_there_already_is_refused(recipe: Recipe, tiny_model: Path) -> None:
    given = ["--set", f"model.path={tiny_model}", "--set", "model.add_tokens=[the]"]
    done = recipe("run", "quickstart", *given, code=2)
    assert "model.add_tokens: 'the' is a token of this model already; take it out" in done.stderr
