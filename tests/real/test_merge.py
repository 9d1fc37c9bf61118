"""Merging: the merged model is base and adapter, and what is not is refused and leaves nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from eval.spec import Merge
from recipes.typed import write_typed
from tests.real.conftest import Recipe, inside

pytestmark = pytest.mark.real

ZEROED = """
import sys
from safetensors.torch import load_file, save_file
file = sys.argv[1] + "/adapter_model.safetensors"
save_file({name: value * 0 for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
"""


# An adapter on a base with two tokens added, which holds their embeddings; and what plain PEFT makes of it.
RESIZED = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
base, target = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
tokenizer.add_tokens(["<ticker>", "<isin>"])
model = AutoModelForCausalLM.from_pretrained(base)
model.resize_token_embeddings(len(tokenizer))
config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["embed_tokens"], task_type="CAUSAL_LM")
adapted = get_peft_model(model, config)
torch.manual_seed(1)
with torch.no_grad():
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            weight.normal_(0, 0.3)
adapted.save_pretrained(target)
tokenizer.save_pretrained(target)
"""
PLAIN = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, rows = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter)
model = AutoModelForCausalLM.from_pretrained(base)
model.resize_token_embeddings(len(tokenizer))
model, total, count = PeftModel.from_pretrained(model, adapter).eval(), 0.0, 0
for row in map(json.loads, open(rows)):
    turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    ids, start = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (whole, asked))
    with torch.inference_mode():
        logp = model(torch.tensor([ids])).logits[0, len(start) - 1 : -1].double().log_softmax(-1)
    total -= float(logp.gather(-1, torch.tensor(ids[len(start):])[:, None]).sum())
    count += len(ids) - len(start)
print(total / count)
"""


def test_an_adapter_on_resized_embeddings_is_scored_and_merged(
    recipe: Recipe, eval_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    adapter, rows = tmp_path / "adapter", tmp_path / "rows.jsonl"
    inside(eval_python, RESIZED, str(tiny_model), str(adapter), cwd=tmp_path)
    said = [("what is <ticker>?", "a bond <isin>"), ("and this?", "two shares")]
    rows.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in said))
    given = ["eval", "--model", str(adapter), "--base-model", str(tiny_model), "--data", str(rows), "--json"]
    found = json.loads(recipe(*given).stdout)["metrics"]["test_loss"]["value"]
    expected = float(inside(eval_python, PLAIN, str(tiny_model), str(adapter), str(rows), cwd=tmp_path))
    assert found == pytest.approx(expected, abs=1e-4)

    (tmp_path / "merged").mkdir()
    asked = Merge(base=str(tiny_model), revision=None, adapter=str(adapter), target=str(tmp_path / "merged"),
                  dtype="auto", trust_remote_code=False, prompts=())  # fmt: skip
    write_typed(tmp_path / "merge.json", asked)
    code = "import runpy, sys; sys.argv = ['merge', 'merge.json']; "
    code += "runpy.run_module('eval.models.merge', run_name='__main__')"
    inside(eval_python, code, cwd=tmp_path)
    whole = recipe("eval", "--model", str(tmp_path / "merged"), "--data", str(rows), "--json", "--output", "whole")
    assert json.loads(whole.stdout)["metrics"]["test_loss"]["value"] == pytest.approx(expected, abs=1e-4)


TRAINED = [
    "model={path: acme/tiny, revision: v1}",
    "training.max_steps=3",
    "checkpoint.every=2",
    "data.train[0].max_samples=40",
    "eval.loss_every=null",
]
RUN = ["run", "quickstart", "--name", "r", "--no-eval", *(part for field in TRAINED for part in ("--set", field))]


def test_a_merged_model_scores_as_its_adapter_on_its_base(
    recipe: Recipe, on_the_hub: Path, eval_python: Path, tmp_path: Path
) -> None:
    """The base is the revision of the recipe for training, scoring and merging alike."""
    recipe(*RUN)
    run = tmp_path / "runs/r"
    merged = Path(recipe("merge", "r").stdout.strip())
    assert (
        merged == run / "merged"
        and json.loads((merged / "merge.json").read_text())["compared"]["largest_difference_nat"] < 1e-4
    )
    assert {file.name for file in merged.iterdir()} >= {"model.safetensors", "config.json", "tokenizer.json"}

    recipe("eval", "r", "--suites", "perplexity")
    scored = json.loads((run / "eval/results.json").read_text())["provenance"]["model"]
    assert scored["base"] == str(on_the_hub)
    adapter = json.loads((run / "eval/results.json").read_text())["metrics"]["perplexity"]["value"]
    done = recipe("eval", "--model", str(merged), "--data", str(run / "data/validation.jsonl"), "--json")
    whole = json.loads(done.stdout)["metrics"]["perplexity"]["value"]
    assert whole == pytest.approx(adapter, rel=1e-5)

    card = (run / "README.md").read_text()
    assert "perplexity" in card and "recipe serve r" in card
    (load,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "…" in inside(eval_python, load, cwd=run)  # the prompt of the example, and its reply

    assert "is there already" in recipe("merge", "r", code=2).stderr
    inside(eval_python, ZEROED, str(run / "model"), cwd=tmp_path)
    said = recipe("merge", "r", "--output", "nothing", code=1).stderr
    assert "the adapter changes no answer" in said and not (tmp_path / "nothing").exists()


@pytest.mark.slow
def test_any_checkpoint_and_adapter_is_merged_in_the_type_that_is_asked_for(
    recipe: Recipe, on_the_hub: Path, tmp_path: Path
) -> None:
    recipe(*RUN)
    run = tmp_path / "runs/r"
    half = Path(recipe("merge", "r", "--dtype", "bfloat16", "--output", "half").stdout.strip())
    assert json.loads((half / "config.json").read_text())["dtype"] == "bfloat16"

    asked = ["--test-prompt", "What is a bond?"]
    done = recipe("merge", "r:2", *asked)
    earlier = Path(done.stdout.strip())
    assert earlier.parent == run / "exports" and "the replies are equal" in done.stderr
    ours, theirs = json.loads((earlier / "merge.json").read_text())["replies"]
    assert (
        ours == theirs == recipe("chat", str(earlier), "--prompt", asked[1], "--max-new-tokens", "128").stdout.strip()
    )

    shutil.copytree(run / "model", tmp_path / "mine")
    merged = Path(recipe("merge", "r", "--fast").stdout.strip())
    done = recipe("merge", "mine", "--base-model", str(on_the_hub), "--fast")
    assert Path(done.stdout.strip()) == tmp_path / "mine-merged" and "not checked, as --fast asks" in done.stderr
    assert (tmp_path / "mine-merged/model.safetensors").read_bytes() == (merged / "model.safetensors").read_bytes()
    (tmp_path / "mine/adapter_config.json").write_text("{}")
    assert "names no base model; give it with --base-model" in recipe("merge", "mine", code=2).stderr
