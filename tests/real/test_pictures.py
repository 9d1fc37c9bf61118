"""Models that read pictures too, as those of Qwen3.5 and Gemma 3 are kept: their text is trained, scored and merged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import Recipe, inside, losses, metrics

pytestmark = pytest.mark.real

MODEL = """
import sys, torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer
source, target, family = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(source)
size = len(tokenizer)
text = dict(
    vocab_size=size, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, head_dim=16,
    num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=tokenizer.pad_token_id)
rope = dict(rope_type="default", rope_theta=1e4, mrope_section=[1, 1, 0], partial_rotary_factor=0.25)
sees = dict(hidden_size=32, intermediate_size=32)
parts = {
    "qwen3_5": lambda: dict(
        text_config=dict(**text, linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=16,
                         linear_value_head_dim=16, rope_parameters=rope),
        vision_config=dict(**sees, depth=1, num_heads=2, out_hidden_size=64), image_token_id=size - 1,
        video_token_id=size - 2, vision_start_token_id=size - 3, vision_end_token_id=size - 4),
    "gemma3": lambda: dict(
        text_config=dict(**text, sliding_window=64, query_pre_attn_scalar=16),
        vision_config=dict(**sees, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14),
        image_token_index=size - 1, boi_token_index=size - 2, eoi_token_index=size - 3, mm_tokens_per_image=4),
}
torch.manual_seed(1)
config = AutoConfig.for_model(family, **parts[family](), tie_word_embeddings=True)
AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).save_pretrained(target)
tokenizer.save_pretrained(target)
"""
# Mean loss of the rows' tokens, and which weights of a trained model are other ones.
REFERENCE = """
import json, sys, torch
from datasets import load_from_disk
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText
base, rows, *trained = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32).eval()
total = count = 0
with torch.no_grad():
    for row in load_from_disk(rows)["train"]:
        labels = torch.tensor(row["labels"])[1:]
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        count += int((labels >= 0).sum())
before = load_file(f"{base}/model.safetensors")
sees = lambda name: any(part in name for part in ("visual", "vision", "projector"))
changed = []
for one in trained:
    after = load_file(f"{one}/model.safetensors")
    assert after.keys() == before.keys()
    moved = {name: bool((after[name].float() != before[name].float()).any()) for name in before}
    changed.append([sorted({moved[name] for name in before if sees(name) == eye}) for eye in (True, False)])
print(json.dumps([total / count, changed]))
"""
BATCH = (
    "{max_steps: 2, global_batch_size: 16, micro_batch_size: 2, learning_rate: 1e-2, warmup_ratio: 0, weight_decay: %s}"
)


@pytest.mark.parametrize("family", [pytest.param("gemma3", marks=pytest.mark.slow), "qwen3_5"])
def test_the_text_is_trained_alike_on_both_backends(
    family: str, recipe: Recipe, llamafactory_python: Path, bundled_model: Path, tmp_path: Path
) -> None:
    """All rows are in each step: the backends have orders of their own. Weight decay reaches what has no gradient."""
    base = tmp_path / family
    inside(llamafactory_python, MODEL, str(bundled_model), str(base), family, cwd=tmp_path)

    def run(backend: str, tuning: str, decay: float) -> Path:
        given = {
            "backend": backend, "model.path": base, "data.train[0].max_samples": 20, "data.max_length": 320,
            "data.validation.fraction": 0.2, "training": BATCH % decay, "tuning": tuning,
        }  # fmt: skip
        sets = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
        return Path(recipe("run", "quickstart", "--no-eval", *sets).stdout.splitlines()[-1])

    full = {backend: run(backend, "{type: full}", 0.1) for backend in ("llamafactory", "verl")}
    lora = {backend: run(backend, "{type: lora, rank: 4}", 0) for backend in ("llamafactory", "verl")}
    hybrid = "micro batches: of 2 rows" in (full["verl"] / "logs/attempt-1.log").read_text()
    assert hybrid == (family == "qwen3_5")
    models = [str(one / "model") for one in full.values()]
    rows = str(full["verl"] / "data/tokenized")
    found = inside(llamafactory_python, REFERENCE, str(base), rows, *models, cwd=tmp_path).splitlines()[-1]
    loss, changed = json.loads(found)
    assert changed == [[[False], [True]]] * 2  # what reads pictures, and the rest
    for runs in (full, lora):
        assert losses(runs["llamafactory"])[0] == pytest.approx(loss, rel=1e-5)
        assert losses(runs["verl"])[0] == pytest.approx(loss, rel=1e-5)
    assert losses(full["llamafactory"]) == pytest.approx(losses(full["verl"]), rel=1e-4)
    assert "merged" in recipe("merge", str(lora["verl"])).stdout
    assert "AutoModelForImageTextToText" in (lora["verl"] / "README.md").read_text()
    recipe("eval", str(lora["verl"]), "--suites", "perplexity")
    scored = json.loads((lora["verl"] / "eval/results.json").read_text())["metrics"]["test_loss"]["value"]
    (validated,) = (line["eval_loss"] for line in metrics(lora["verl"]) if "eval_loss" in line)
    assert scored == pytest.approx(validated, rel=1e-5)
