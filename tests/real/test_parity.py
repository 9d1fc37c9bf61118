"""One recipe on both backends: the same tokens and loss mask in what the model is given, and the same losses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import PreparedData, Topology
from adapters.lora import ADAPTER
from recipes import LoadedRecipe, load
from runner.machine import process
from runner.runs import rundir as rundir
from runner.runs.rundir import Run
from runner.training.attempt import child_environment
from runner.training.planning import make_plan
from runner.training.prepare import prepare
from tests.real.conftest import Recipe, inside, losses
from tests.real.templates import TEMPLATES

pytestmark = pytest.mark.real

ASKED = ("What is a bond?", "债券是什么？")
TOLD = ("A loan to a state or a company.", "债券是一种借款凭证，\n发行人按期付息。")
SYSTEM = "Answer briefly."
MORE = ("And a share?", "A part of a company; its value may fall to nothing.")
# For each format: one turn, with a system prompt, many turns, and Chinese.
ROWS: dict[str, list[dict[str, Any]]] = {
    "alpaca": [
        {"instruction": ASKED[0], "output": TOLD[0]},
        {"instruction": "Translate.", "input": ASKED[1], "output": ASKED[0], "system": SYSTEM},
        {"instruction": MORE[0], "output": MORE[1], "history": [[ASKED[0], TOLD[0]]]},
        {"instruction": ASKED[1], "output": TOLD[1]},
    ],
    "prompt_response": [
        {"prompt": ASKED[0], "response": TOLD[0]},
        {"prompt": MORE[0], "response": " " + MORE[1]},
        {"prompt": ASKED[0] + "\n", "response": TOLD[0] + "\n\n"},
        {"prompt": ASKED[1], "response": TOLD[1]},
    ],
    "messages": [],
    "conversations": [],
}
TURNS = [
    [("user", ASKED[0]), ("assistant", TOLD[0])],
    [("system", SYSTEM), ("user", ASKED[0]), ("assistant", TOLD[0])],
    [("user", ASKED[0]), ("assistant", TOLD[0]), ("user", MORE[0]), ("assistant", MORE[1])],
    [("system", SYSTEM), ("user", ASKED[1]), ("assistant", TOLD[1]), ("user", MORE[0]), ("assistant", MORE[1])],
]
NAMES = {"user": "human", "assistant": "gpt", "system": "system"}
ROWS["messages"] = [{"messages": [{"role": role, "content": text} for role, text in turns]} for turns in TURNS]
ROWS["conversations"] = [{"conversations": [{"from": NAMES[r], "value": text} for r, text in turns]} for turns in TURNS]
COUNT = len(TEMPLATES) * sum(map(len, ROWS.values()))

RECIPE = """
backend: llamafactory
method: sft
model: {{path: {model}, chat_template: chatml.jinja}}
tuning: {{type: full}}
data:
  train: [{sources}]
  max_length: 512
training: {{max_steps: 1, global_batch_size: {batch}, micro_batch_size: 4, gradient_checkpointing: false}}
"""
MERGE = """
import sys
from datasets import DatasetDict, concatenate_datasets, load_from_disk
target, *parts = sys.argv[1:]
DatasetDict({"train": concatenate_datasets([load_from_disk(part)["train"] for part in parts])}).save_to_disk(target)
"""
# What the model's forward and the loss are given, one line a row: [token ids, labels].
FED = {
    "llamafactory": """
import functools, json, sys
from transformers import LlamaForCausalLM
forward, out = LlamaForCausalLM.forward, open(sys.argv[1], "w")
@functools.wraps(forward)
def recorded(self, *args, input_ids=None, attention_mask=None, labels=None, **kwargs):
    for ids, there, label in zip(input_ids, attention_mask.bool(), labels):
        print(json.dumps([ids[there].tolist(), label[there].tolist()]), file=out, flush=True)
    return forward(self, *args, input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)
LlamaForCausalLM.forward = recorded
from adapters.llamafactory.train import main
main(*sys.argv[2:])
""",
    "verl": """
import functools, itertools, json, sys
import verl.workers.utils.losses as losses
from transformers import LlamaForCausalLM
forward, loss, out, seen = LlamaForCausalLM.forward, losses.sft_loss, open(sys.argv[1], "w"), []
@functools.wraps(forward)
def recorded(self, *args, input_ids=None, position_ids=None, **kwargs):
    starts = (position_ids[0] == 0).nonzero()[:, 0].tolist()  # of the rows, one behind the other
    seen[:] = [input_ids[0, start:end].tolist() for start, end in itertools.pairwise([*starts, None])]
    return forward(self, *args, input_ids=input_ids, position_ids=position_ids, **kwargs)
def weighed(*args, data, **kwargs):
    rows = [(ids.tolist(), mask.tolist()) for ids, mask in zip(data["input_ids"].unbind(), data["loss_mask"].unbind())]
    assert [ids for ids, _ in rows] == seen, "the model is given other tokens than the loss"
    for ids, mask in rows:
        print(json.dumps([ids, [i if m else -100 for i, m in zip(ids, mask)]]), file=out, flush=True)
    return loss(*args, data=data, **kwargs)
LlamaForCausalLM.forward, losses.sft_loss = recorded, weighed
from pathlib import Path
from adapters.verl.train import main
main(Path(sys.argv[2]))
""",
}


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_model: Path) -> Path:
    sources = []
    for name, rows in ROWS.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        sources.append(f"{{path: {name}.jsonl, format: {name}}}")
    for name, text in TEMPLATES.items():
        (tmp_path / f"{name}.jinja").write_text(text, encoding="utf-8")
    file = tmp_path / "parity.yaml"
    file.write_text(RECIPE.format(model=tiny_model, sources=", ".join(sources), batch=COUNT), encoding="utf-8")
    return file


def fed(loaded: LoadedRecipe, run: Run, python: Path) -> list[list[list[int]]]:
    """The rows that the backend gives its model in one step over all of them, in their own order."""
    plan = make_plan(loaded, Topology(), run.path, data=PreparedData(train_rows=COUNT), python=python)
    for name, text in plan.files.items():
        (run.path / name).write_text(text, encoding="utf-8")
    out = run.path / "fed.jsonl"
    arguments = plan.argv[plan.argv.index("backend/train.yaml") :]
    command = [*process.wrapped(), str(python), "-c", FED[loaded.recipe.backend], str(out), *arguments]
    env = child_environment(plan)
    done = subprocess.run(command, cwd=run.path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return sorted(json.loads(line) for line in out.read_text().splitlines())


def test_both_backends_give_the_model_the_same_tokens_and_mask(
    recipe_file: Path, llamafactory_python: Path, verl_python: Path, tmp_path: Path
) -> None:
    """Six chat templates x four formats x one and many turns, with and without a system prompt, Chinese among them."""
    pythons = {"llamafactory": llamafactory_python, "verl": verl_python}
    parts = []
    for name in TEMPLATES:
        loaded = load(str(recipe_file), [f"model.chat_template={name}.jinja"])
        run = rundir.create(loaded, tmp_path / "prepared", name)
        prepare(run, loaded.recipe, llamafactory_python, loaded.recipe.model.path, print)
        parts.append(str(run.path / "data/tokenized"))
    found = {}
    for name, python in pythons.items():
        loaded = load(str(recipe_file), [f"backend={name}"])
        run = rundir.create(loaded, tmp_path / "runs", name)
        inside(llamafactory_python, MERGE, str(run.path / "data/tokenized"), *parts, cwd=tmp_path)
        found[name] = fed(loaded, run, python)
    assert len(found["verl"]) == COUNT
    # The first token has nothing before it: no loss falls on it whatever its label.
    first, second = ([[ids, labels[1:]] for ids, labels in rows] for rows in found.values())
    assert first == second
    trained = sum(label >= 0 for _, labels in first for label in labels)
    print(f"{COUNT} rows, {sum(len(ids) for ids, _ in first)} tokens, {trained} of them with loss: identical")
    assert trained > COUNT


LORA = "tuning={type: lora, rank: 8, dropout: 0.0}"
FULL = "tuning={type: full}"


@pytest.mark.parametrize("tuning", [LORA, pytest.param(FULL, marks=pytest.mark.slow)], ids=["lora", "full"])
def test_the_losses_agree_over_ten_steps(tuning: str, recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """The global batch is the data set, so that order cannot matter; LoRA starts from one adapter."""
    given = {
        "model.path": tiny_model, "training.max_steps": 10, "data.train[0].max_samples": 8, "data.validation": "{}",
        "training.global_batch_size": 8, "training.weight_decay": 0.1, "eval": "{}", "checkpoint.every": "null",
    }  # fmt: skip
    common = [part for field, value in given.items() for part in ("--set", f"{field}={value}")] + ["--set", tuning]
    recipe("run", "quickstart", "--name", "verl", "--set", "backend=verl", *common)
    adapter = tmp_path / "runs/verl" / ADAPTER
    start = [] if tuning == FULL else ["--set", f"model.adapter_path={adapter}"]
    recipe("run", "quickstart", "--name", "llamafactory", *common, *start)
    one, other = (losses(tmp_path / "runs" / name) for name in ("verl", "llamafactory"))
    assert len(one) == len(other) == 10
    gap = max(abs(a - b) for a, b in zip(one, other, strict=True))
    print(f"{tuning}: {one[0]:.6f} -> {one[-1]:.6f}, largest difference {gap:.2e}")
    assert one[-1] < one[0] and gap <= 2e-5
