"""Reward models for real: they train, go on, are scored by their own head, and do as LLaMA-Factory without us."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from runner.machine.process import clean_environment
from tests.real.conftest import Recipe, RunOnce, inside, losses, metrics, steps
from tests.real.test_llamafactory_backend import FULL, LONG, LORA, short, start_and_kill

pytestmark = pytest.mark.real

TUNINGS = [LORA, pytest.param(FULL, marks=pytest.mark.slow)]
UNTIED = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
source, target = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source)
model.config.tie_word_embeddings = False
model.lm_head.weight = type(model.lm_head.weight)(model.lm_head.weight.detach().clone())
model.save_pretrained(target)
AutoTokenizer.from_pretrained(source).save_pretrained(target)
"""
# One pair at a time, unpadded, and the head's weights by hand.
BY_HAND = """
import json, sys, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
base, model, rows = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
if base != model:
    from peft import PeftModel
    whole = PeftModel.from_pretrained(whole, model)
head = load_file(model + "/value_head.safetensors")
def score(messages):
    ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        hidden = whole.eval()(**ids, output_hidden_states=True).hidden_states[-1][0, -1]
    return sum(float(w) * float(h) for w, h in zip(head["v_head.summary.weight"][0], hidden)) + float(
        head["v_head.summary.bias"]
    )
found = []
for line in open(rows, encoding="utf-8"):
    row = json.loads(line)
    found.append([score([*row["prompt"], *row[reply]]) for reply in ("chosen", "rejected")])
print(json.dumps(found))
"""


def records(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "preference.jsonl").read_text().splitlines()]


def accuracy(directory: Path) -> float:
    return float(json.loads((directory / "results.json").read_text())["metrics"]["preference.accuracy"]["value"])


@pytest.fixture(scope="module")
def trained(run_once: RunOnce, tiny_model: Path) -> dict[str, Path]:
    """A LoRA run of 12 steps, scored."""
    given = [one for one in short("finance_reward", tiny_model, *LONG, "--set", LORA) if one != "--no-eval"]
    return {LORA: run_once(*given)}


def test_it_trains_and_tells_scores_and_accuracy(trained: dict[str, Path]) -> None:
    run = trained[LORA]
    assert steps(run) == list(range(1, 13))
    own = {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
    for line in metrics(run):
        if "loss" in line:
            assert line.keys() >= own and 0 <= line["rewards/accuracies"] <= 1
            assert line["rewards/margins"] == pytest.approx(line["rewards/chosen"] - line["rewards/rejected"], abs=1e-5)
    assert {file.name for file in (run / "model").iterdir()} >= {
        "adapter_model.safetensors", "value_head.safetensors", "chat_template.jinja"
    }  # fmt: skip


def test_the_suite_finds_the_scores_of_a_slow_computation_by_hand(
    trained: dict[str, Path], tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    run = trained[LORA]
    given = (str(tiny_model), str(run / "model"), str(run / "data/validation.jsonl"))
    wanted = json.loads(inside(llamafactory_python, BY_HAND, *given, cwd=tmp_path).splitlines()[-1])
    found = records(run / "eval")
    assert [[one["chosen_score"], one["rejected_score"]] for one in found] == [
        pytest.approx(pair, abs=1e-4) for pair in wanted
    ]
    right = sum(chosen > rejected for chosen, rejected in wanted) / len(wanted)
    assert accuracy(run / "eval") == pytest.approx(right)
    last = [line for line in metrics(run) if "eval_loss" in line][-1]
    assert last["step"] == 12 and last["eval_rewards/accuracies"] == pytest.approx(right)  # LLaMA-Factory's own
    assert not (run / "eval/base").exists()


def test_the_lines_of_its_readme_give_the_score(
    trained: dict[str, Path], llamafactory_python: Path, tmp_path: Path
) -> None:
    run = trained[LORA]
    text = (run / "README.md").read_text(encoding="utf-8")
    assert "recipe serve" not in text and "recipe chat" not in text
    code = text.partition("```python\n")[2].partition("```")[0]
    row = json.loads((run / "data/validation.jsonl").read_text().splitlines()[0])
    (asked,) = [line for line in code.splitlines() if line.startswith("chat = ")]
    code = code.replace(asked, f"chat = {[*row['prompt'], *row['chosen']]!r}")
    score = float(inside(llamafactory_python, code, cwd=run).splitlines()[-1])
    assert score == pytest.approx(records(run / "eval")[0]["chosen_score"], abs=1e-4)


@pytest.mark.parametrize(
    "tuning,tied", [(LORA, True), *(pytest.param(FULL, tied, marks=pytest.mark.slow) for tied in (True, False))]
)
def test_losses_and_head_are_those_of_llamafactory_without_us(
    tuning: str, tied: bool, run_once: RunOnce, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    model = tiny_model if tied else tmp_path / "untied"
    if not tied:
        inside(llamafactory_python, UNTIED, str(tiny_model), str(model), cwd=tmp_path)
        assert json.loads((model / "config.json").read_text())["tie_word_embeddings"] is False
    run = run_once(*short("finance_reward", model, "--set", tuning))
    config = yaml.safe_load((run / "backend/train.yaml").read_text())
    own, file = tmp_path / "own", tmp_path / "own.yaml"
    config |= {"output_dir": str(own), "save_strategy": "no"}
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [str(llamafactory_python.parent / "llamafactory-cli"), "train", str(file)],
        cwd=run, env=clean_environment(), check=False, capture_output=True, text=True,
    )  # fmt: skip
    if tuning == FULL and tied:  # what train_reward.py is for: it trains, and cannot write the tied weights
        assert done.returncode and "share memory" in done.stderr
        shown = [line for line in done.stdout.splitlines() if line.startswith("{'loss'")]
        assert [float(yaml.safe_load(line)["loss"]) for line in shown] == pytest.approx(losses(run), abs=1e-3)
        return
    assert done.returncode == 0, done.stderr[-2000:]
    history = json.loads((own / "trainer_state.json").read_text())["log_history"]
    assert [line["loss"] for line in history if "loss" in line] == losses(run)
    for name in ("value_head.safetensors", "adapter_model.safetensors" if tuning == LORA else "model.safetensors"):
        assert (own / name).read_bytes() == (run / "model" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("tuning", TUNINGS)
def test_killed_at_random_and_resumed_it_ends_as_if_never_killed(
    tuning: str, recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    """LLaMA-Factory by itself goes on from no checkpoint of a reward model."""
    given = short("finance_reward", tiny_model, *LONG[:4], "--set", tuning)
    whole = Path(recipe(*given, "--name", "whole").stdout.splitlines()[-1])
    run = tmp_path / "runs" / "killed"
    start_and_kill([*given, "--name", "killed"], run, tmp_path, random.Random(7).randint(3, 8))
    done = recipe("resume", "killed", "--no-eval")
    assert "resuming from step" in done.stderr
    assert steps(run) == list(range(1, 13)) and losses(run) == losses(whole)
    for file in (whole / "model").glob("*.safetensors"):
        assert (run / "model" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_merged_one_scores_alike_and_what_writes_is_refused(
    trained: dict[str, Path], recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    run = trained[LORA]
    merged = tmp_path / "merged"
    recipe("merge", str(run), "--output", str(merged))
    rows = str(run / "data/validation.jsonl")
    given = ["eval", "--model", str(merged), "--data", rows, "--output", str(tmp_path / "scores")]
    recipe(*given, "--suites", "preference")
    pairs = zip(records(tmp_path / "scores"), records(run / "eval"), strict=True)
    for one, other in pairs:
        assert one["chosen_score"] == pytest.approx(other["chosen_score"], abs=1e-3)
    assert "cannot be asked of a reward model" in recipe(*given, "--suites", "perplexity", code=2).stderr
    for command in (["chat", str(run), "--prompt", "Hi"], ["serve", str(run)]):
        assert "scores replies and writes none" in recipe(*command, code=2).stderr
    refused = {
        ("eval", str(run), "--suites", "generation"): "allowed: preference",
        ("eval", str(run), "--base-model", str(tiny_model)): "no head to score with",
        ("eval", str(run), "--engine", "vllm"): "does not take",
        ("merge", str(run), "--output", str(tmp_path / "m"), "--test-prompt", "Hi"): "asked --test-prompt",
        ("run", "quickstart", "--from", str(run)): "its head would be lost",
    }
    for arguments, text in refused.items():
        assert text in recipe(*arguments, code=2).stderr


@pytest.mark.slow
def test_a_stage_behind_sft_begins_with_its_adapter_and_goes_on_as_a_reward_model(
    run_once: RunOnce, recipe: Recipe, tiny_model: Path
) -> None:
    first = run_once(*short("quickstart", tiny_model, "--set", LORA))
    second = Path(recipe(*short("finance_reward", tiny_model), "--from", str(first)).stdout.splitlines()[-1])
    assert json.loads((second / "run.json").read_text())["parent"]["kind"] == "adapter"
    third = recipe(*short("finance_reward", tiny_model), "--from", str(second), "--name", "third")
    run = Path(third.stdout.splitlines()[-1])
    # The head of the second is gone on with: on the same first batch it is where that one ended.
    assert metrics(run)[0]["rewards/margins"] != pytest.approx(metrics(second)[0]["rewards/margins"], abs=1e-4)


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(
    recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout in the head, which each process draws for its own rows; trl takes that from the config."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"summary_dropout_prob": 0.0}))
    arguments = short("finance_reward", model, "--set", LORA)
    one = Path(recipe(*arguments, "--name", "one").stdout.splitlines()[-1])
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    two = Path(recipe(*arguments, "--name", "two").stdout.splitlines()[-1])
    both = ["--set", "tuning={type: full}", "--set", "training.gradient_checkpointing=true"]
    assert len(losses(Path(recipe(*short("finance_reward", model, *both)).stdout.splitlines()[-1]))) == 2
    for name in ("loss", "rewards/chosen", "rewards/margins", "rewards/accuracies"):
        alone, together = ([line[name] for line in metrics(run) if name in line] for run in (one, two))
        assert together == pytest.approx(alone, abs=1e-5)
    assert json.loads((two / "run.json").read_text())["topology"]["processes"] == 2
