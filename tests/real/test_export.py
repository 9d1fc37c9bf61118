"""Exports: what is on the disk is what was compared, by a computation of its own; what is broken is not called good."""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from runner.files import safetensors_header
from tests.real.conftest import Recipe, RunOnce, calls_in, inside

pytestmark = pytest.mark.real

# The loss of each held-out row and its tokens, one row a pass, of models and of adapters on their base; and some rows.
BY_HAND = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
models, held_out, train, indices = map(json.loads, sys.argv[1:])
tokenizer = AutoTokenizer.from_pretrained(models[0][0])
def ids(turns, **how):
    text = tokenizer.apply_chat_template(turns, tokenize=False, **how)
    return tokenizer(text, add_special_tokens=False)["input_ids"]
def rows(file):
    return [json.loads(line)["messages"] for line in open(file)]
def losses(model, base):
    loaded = AutoModelForCausalLM.from_pretrained(base or model, dtype=torch.float32)
    if base:
        from peft import PeftModel
        loaded = PeftModel.from_pretrained(loaded, model)
    for turns in rows(held_out):
        whole, start = ids(turns), len(ids(turns[:-1], add_generation_prompt=True))
        with torch.inference_mode():
            logp = loaded.eval()(torch.tensor([whole])).logits[0, start - 1 : -1].double().log_softmax(-1)
        yield -float(logp.gather(-1, torch.tensor(whole[start:])[:, None]).sum()), len(whole) - start
chosen = rows(train)
print(json.dumps([[list(losses(*model)) for model in models], [ids(chosen[n]) for n in indices]]))
"""
SCALED = """
import sys
from safetensors.torch import load_file, save_file
file, name, by = sys.argv[1:]
weights = load_file(file)
weights[name] *= float(by)
save_file(weights, file, metadata={"format": "pt"})
"""
TRAINED = [
    "training.max_steps=3",
    "data.train[0].max_samples=60",
    "data.validation.fraction=0.2",
    "eval.loss_every=null",
]
Rows = list[tuple[float, int]]


def trained(run_once: RunOnce, model: Path, *more: str) -> Path:
    given = [part for field in (f"model.path={model}", *TRAINED, *more) for part in ("--set", field)]
    return run_once("run", "quickstart", "--name", "r", "--no-eval", *given)


@pytest.fixture
def run(run_once: RunOnce, tiny_model: Path, tmp_path: Path) -> Path:
    """A run of a test's own, as it ended."""
    return shutil.copytree(trained(run_once, tiny_model), tmp_path / "runs/r")


def by_hand(
    python: Path, run: Path, *models: tuple[Path, Path | None], drawn: Sequence[int] = ()
) -> tuple[list[Rows], list[list[int]]]:
    """Of each model, or adapter and base, loss and tokens of each held-out row; token ids of training rows."""
    named = [[str(model), str(base or "")] for model, base in models]
    files = [str(run / "data/validation.jsonl"), str(run / "data/train.jsonl")]
    found = inside(python, BY_HAND, *map(json.dumps, (named, *files, list(drawn))), cwd=run)
    return json.loads(found)  # type: ignore[no-any-return]


def perplexity(rows: Rows) -> float:
    return math.exp(sum(nll for nll, _ in rows) / sum(tokens for _, tokens in rows))


def stored(model: Path, ending: str) -> dict[str, tuple[str, list[int]]]:
    """dtype and shape of the tensors of the decoders' linear layers whose names end so."""
    header = safetensors_header(model / "model.safetensors") or {}
    found = {name: (one["dtype"], one["shape"]) for name, one in header.items() if name.endswith(f"proj.{ending}")}
    return {name.removesuffix(f".{ending}"): value for name, value in found.items()}


def exported(call: Recipe, scheme: str, *more: str, code: int = 0) -> tuple[Path, dict]:  # type: ignore[type-arg]
    done = call("export", "r", "--to", scheme, "--suites", *more, code=code)
    target = Path(done.stdout.strip())
    return target, json.loads((target / "export.json").read_text())


def test_what_is_compared_is_what_lies_on_the_disk(
    recipe: Recipe, run: Path, tiny_model: Path, eval_python: Path
) -> None:
    target, told = exported(recipe, "gptq", "--calibration-rows", "20", "--margin", "0.2")
    assert target == run / "exported/gptq" and not list(run.glob("exported/.*"))
    whole = stored(run / "merged", "weight")
    assert stored(target, "weight_packed") == {
        name: ("I32", [outputs, inputs // 8]) for name, (_, (outputs, inputs)) in whole.items()
    }
    assert not stored(target, "weight") and told["quantized"]["layers"] == len(whole) == 14
    assert told["quantized"]["group_size"] == 64  # 128 inputs, and 192
    files = [path / "model.safetensors" for path in (run / "merged", target)]
    assert [told["bytes_before"], told["bytes_after"]] == [file.stat().st_size for file in files]

    calibrated = told["quantized"]["calibrated"]
    drawn = random.Random(calibrated["seed"]).sample(range(calibrated["of"]), calibrated["of"])[:20]
    (before, after), rows = by_hand(eval_python, run, (run / "model", tiny_model), (target, None), drawn=drawn)
    assert calibrated["rows"] == 20 and calibrated["tokens"] == sum(map(len, rows))
    behind = array("i", [number for row in rows for number in (*row, -1)])
    assert calibrated["sha256"] == hashlib.sha256(behind.tobytes()).hexdigest()

    found = told["verified"]["perplexity"]
    assert found["before"] == pytest.approx(perplexity(before), rel=1e-5)
    assert found["after"] == pytest.approx(perplexity(after), rel=1e-5) != pytest.approx(found["before"], rel=1e-5)
    assert found["change"] == pytest.approx(perplexity(after) / perplexity(before) - 1, abs=1e-5)
    assert found["ci95"][0] <= found["change"] <= found["ci95"][1] and found["n"] == len(before) == len(after)
    assert told["verdict"] == "good" and "As good as before" in (target / "README.md").read_text()

    assert "is there already" in recipe("export", "r", "--to", "gptq", code=2).stderr


@pytest.mark.slow
def test_what_is_not_what_was_trained_is_not_good(recipe: Recipe, run: Path, eval_python: Path) -> None:
    _, told = exported(recipe, "hf", "-o", "whole")
    assert told["verdict"] == "good" and abs(told["verified"]["perplexity"]["change"]) < 1e-5
    file = str(run / "merged/model.safetensors")
    inside(eval_python, SCALED, file, "model.norm.weight", "100", cwd=run)
    broken, told = exported(recipe, "hf", "-o", "broken", code=3)
    assert told["verdict"] == "not good" and "NOT GOOD" in (broken / "README.md").read_text()
    assert told["verified"]["perplexity"]["change"] > 1


@pytest.mark.slow
@pytest.mark.parametrize("scheme,kind", [("fp8", "F8_E4M3"), ("int8", "I8"), ("awq", "I32")])
def test_every_scheme_is_stored_and_scored(
    scheme: str, kind: str, recipe: Recipe, run: Path, eval_python: Path, tiny_model: Path
) -> None:
    target, told = exported(recipe, scheme, "--margin", "0.2")
    packed = scheme == "awq"
    kinds = {dtype for dtype, _ in stored(target, "weight_packed" if packed else "weight").values()}
    assert kinds == {kind} and told["verdict"] == "good"
    assert told["bytes_after"] < told["bytes_before"]
    (after,), _ = by_hand(eval_python, run, (target, None))
    # Activations in 8 bits are rounded otherwise where rows are padded: by hundredths, where a weight is exact.
    exact = 1e-5 if packed else 5e-3
    assert told["verified"]["perplexity"]["after"] == pytest.approx(perplexity(after), rel=exact)
    assert (told["quantized"]["calibrated"] is None) == (scheme == "fp8")
    again, other = exported(recipe, scheme, "--fast", "-o", "again")
    assert other["verdict"] == "not verified" and other["hash"] == told["hash"], "the same rows give the same weights"
    assert not (again / "verification").exists()


@pytest.mark.slow
def test_a_layer_of_zeros_is_not_called_good(
    bundled_model: Path, eval_python: Path, tmp_path: Path, run_once: RunOnce
) -> None:
    given = [part for field in ("training.max_steps=2", "eval.loss_every=null") for part in ("--set", field)]
    run = shutil.copytree(run_once("run", "quickstart", "--name", "real", "--no-eval", *given), tmp_path / "runs/r")
    call = calls_in(tmp_path)
    _, told = exported(call, "int8", "--calibration-rows", "32", "--margin", "0.1")
    assert told["verdict"] == "good", told["reason"]
    for name in ("gate_proj", "up_proj", "down_proj"):
        weight = f"model.layers.15.mlp.{name}.weight"
        inside(eval_python, SCALED, str(run / "merged/model.safetensors"), weight, "0", cwd=run)
    _, told = exported(call, "fp8", "--margin", "0.1", code=3)
    assert told["verdict"] == "not good", told["reason"]


@pytest.mark.slow
def test_a_model_that_a_scheme_cannot_take_is_refused_before_anything_is_written(
    run_once: RunOnce, tiny_model: Path, eval_python: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    make = """
import sys
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
source, target = sys.argv[1:]
config = AutoConfig.from_pretrained(source)
config.intermediate_size = 200
AutoModelForCausalLM.from_config(config).save_pretrained(target)
AutoTokenizer.from_pretrained(source).save_pretrained(target)
"""
    inside(eval_python, make, str(tiny_model), str(odd), cwd=tmp_path)
    given = [part for field in (f"model.path={odd}", *TRAINED, "tuning={type: full}") for part in ("--set", field)]
    call = calls_in(tmp_path)
    call("run", "quickstart", "--name", "r", "--no-eval", *given)
    said = call("export", "r", "--to", "awq", code=2).stderr
    assert "model.layers.0.mlp.down_proj has 200 inputs, a multiple of no group size of awq (128, 64, 32)" in said
    assert [path.name for path in (tmp_path / "runs/r/exported").iterdir()] == []
    call("export", "r", "--to", "fp8", "--fast")
