"""The evaluation worker as the runner starts it: results, resumption after kills, adapters, and the user's mistakes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from runner.files import code_directory
from runner.machine import process
from runner.machine.process import clean_environment
from tests.real.conftest import inside

pytestmark = pytest.mark.real

ADAPTER = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
base, target = sys.argv[1:]
torch.manual_seed(0)
adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules="all-linear"))
for name, weight in adapted.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(weight, std=0.2)
adapted.save_pretrained(target)
"""


def _rows(path: Path, count: int = 12) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"What is {n} percent of 200?"},
                      {"role": "assistant", "content": f"It is {2 * n}. " * (1 + n % 5)}]}
        for n in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _spec(tmp_path: Path, model: Path, **fields: Any) -> Path:
    output = tmp_path / fields.pop("output", "out")
    models = [
        {"name": "m", "path": str(model), "base": fields.pop("base", None), "output": str(output), "run": {"a": 1}}
    ]
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"models": models, "suites": ["perplexity"], "device": "cpu"} | fields))
    return path


def _worker(python: Path, spec: Path) -> list[str]:
    return [*process.wrapped(), str(python), "-m", "eval.worker", str(spec)]


def _environment() -> dict[str, str]:
    return clean_environment({"PYTHONPATH": str(code_directory())}, needed=["JUDGE_KEY"])


def _run(python: Path, spec: Path, code: int = 0) -> str:
    done = subprocess.run(
        _worker(python, spec), capture_output=True, text=True, env=_environment(), cwd=spec.parent, check=False
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


def _results(tmp_path: Path, output: str = "out") -> dict[str, Any]:
    return dict(json.loads((tmp_path / output / "results.json").read_text()))


def test_results_do_not_depend_on_the_batch_size(eval_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    rows = str(_rows(tmp_path / "rows.jsonl"))
    suites = ["perplexity", "generation"]
    for budget in (1, 4096):
        fields = {"rows": rows, "suites": suites, "batch_tokens": budget, "max_new_tokens": 8, "output": f"b{budget}"}
        _run(eval_python, _spec(tmp_path, tiny_model, **fields))
    one, many = _results(tmp_path, "b1"), _results(tmp_path, "b4096")
    for name, measure in one["metrics"].items():
        assert many["metrics"][name]["value"] == pytest.approx(measure["value"], rel=1e-5), name
    assert one["provenance"]["model"]["hash"] == many["provenance"]["model"]["hash"]
    assert one["provenance"]["run"] == {"a": 1}


def test_an_adapter_is_scored_on_its_base(eval_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    """It gives other numbers than the base and has another identity; without its base it is the user's mistake."""
    rows, adapter = str(_rows(tmp_path / "rows.jsonl")), tmp_path / "adapter"
    inside(eval_python, ADAPTER, str(tiny_model), str(adapter), cwd=tmp_path)
    _run(eval_python, _spec(tmp_path, tiny_model, rows=rows))
    _run(eval_python, _spec(tmp_path, adapter, rows=rows, base=str(tiny_model), output="adapted"))
    base, adapted = _results(tmp_path), _results(tmp_path, "adapted")
    assert base["provenance"]["model"]["hash"] != adapted["provenance"]["model"]["hash"]
    assert abs(base["metrics"]["test_loss"]["value"] - adapted["metrics"]["test_loss"]["value"]) > 1e-3
    assert "no such directory" in _run(eval_python, _spec(tmp_path, adapter, rows=rows, base="/nowhere"), code=2)


DAMAGED = """
import sys
from safetensors.torch import load_file, save_file
file, drop, add = sys.argv[1:]
tensors = load_file(file)
tensors = {name: tensor for name, tensor in tensors.items() if not drop or drop not in name}
if add:
    tensors |= {name.replace("layers.0", add): tensor.clone() for name, tensor in tensors.items() if "layers.0" in name}
save_file(tensors, file, metadata={"format": "pt"})
"""


@pytest.mark.parametrize(
    ("of", "drop", "add", "message"),
    [
        ("model", "layers.0.mlp.up_proj", "", "its files lack the weight model.layers.0.mlp.up_proj.weight; without"),
        ("adapter", "layers.1", "", "the adapter lacks 14 of the weights, such as base_model.model.model.layers.1."),
        ("adapter", "", "layers.7", "the adapter holds 14 of the weights, such as base_model.model.model.layers.7."),
    ],
)
def test_weights_that_are_missing_are_not_made_up(
    eval_python: Path, tiny_model: Path, tmp_path: Path, of: str, drop: str, add: str, message: str
) -> None:
    rows, model, adapter = str(_rows(tmp_path / "rows.jsonl")), tmp_path / "model", tmp_path / "adapter"
    shutil.copytree(tiny_model, model)
    inside(eval_python, ADAPTER, str(tiny_model), str(adapter), cwd=tmp_path)
    file = model / "model.safetensors" if of == "model" else adapter / "adapter_model.safetensors"
    inside(eval_python, DAMAGED, str(file), drop, add, cwd=tmp_path)
    spec = _spec(tmp_path, adapter, rows=rows, base=str(model))
    said = _run(eval_python, spec, code=2)
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.cold
@pytest.mark.thorough
def test_killed_at_random_moments_it_ends_with_the_same_results(
    eval_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """And repeats no finished sample: what was kept before a kill stays as it is, and each request is kept once."""
    fields = {
        "rows": str(_rows(tmp_path / "rows.jsonl", 60)), "suites": ["perplexity", "generation"],
        "batch_tokens": 1, "max_new_tokens": 4,
    }  # fmt: skip
    started = time.monotonic()
    _run(eval_python, _spec(tmp_path, tiny_model, output="whole", **fields))
    whole = time.monotonic() - started
    spec = _spec(tmp_path, tiny_model, output="killed", **fields)
    draw, kept = random.Random(5), tmp_path / "killed" / "cache" / "answers.jsonl"
    finished: list[str] = []
    for moment in range(10 if os.environ.get("RECIPE_THOROUGH") else 2):
        # Half of them at any time of the whole, start and end included; half while answers are being kept.
        _kill(eval_python, spec, kept, draw.uniform(0, whole) if moment % 2 else None, draw.uniform(0, 0.05))
        lines = _whole_lines(kept)
        assert lines[: len(finished)] == finished
        finished = lines
    assert len(finished) > 0
    said = _run(eval_python, spec)
    assert "requests were answered before" in said
    assert _whole_lines(kept)[: len(finished)] == finished
    keys = [json.loads(line)["key"] for line in _whole_lines(kept)]
    assert len(keys) == len(set(keys)) == 120
    assert _results(tmp_path, "killed")["metrics"] == _results(tmp_path, "whole")["metrics"]
    for suite in fields["suites"]:
        killed, uninterrupted = (tmp_path / out / f"{suite}.jsonl" for out in ("killed", "whole"))
        assert killed.read_text() == uninterrupted.read_text()


def _kill(python: Path, spec: Path, kept: Path, after: float | None, more: float) -> None:
    """Start the worker and kill it `after` so many seconds; None: once it has kept an answer, and `more` seconds."""
    before = kept.stat().st_size if kept.exists() else 0
    start = time.monotonic()
    with subprocess.Popen(
        _worker(python, spec), stderr=subprocess.DEVNULL, env=_environment(), cwd=spec.parent
    ) as child:
        while child.poll() is None:
            if after is None and kept.exists() and kept.stat().st_size > before:
                time.sleep(more)
                break
            if after is not None and time.monotonic() - start > after:
                break
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)


def _whole_lines(path: Path) -> list[str]:
    """The lines that a kill did not tear."""
    text = path.read_text() if path.exists() else ""
    return [line for line in text.splitlines() if line.endswith("}}")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": "/nowhere/rows.jsonl"}, "rows: /nowhere/rows.jsonl: no such file"),
        ({"suites": ["perplexty"]}, "unknown suite 'perplexty'; did you mean 'perplexity'?"),
        ({"suites": ["perplexity", "generation"]}, "generation: no prompts to answer"),
        ({"engine": "tgi"}, "unknown engine 'tgi'"),
        ({"colour": "red"}, "colour: unknown key"),
    ],
)
def test_mistakes_are_named_without_a_traceback(
    eval_python: Path, tiny_model: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    stderr = _run(eval_python, _spec(tmp_path, tiny_model, **fields), code=2)
    assert message in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no config.json"),
        ({"config.json": "{}"}, "holds no weights"),
        ({"config.json": '{"model_type": "nonsense"}', "model.safetensors": "x"}, "cannot load the tokenizer"),
    ],
)
def test_what_is_no_model_is_named(eval_python: Path, tmp_path: Path, files: dict[str, str], message: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name, content in files.items():
        (model / name).write_text(content)
    stderr = _run(eval_python, _spec(tmp_path, model, rows=str(_rows(tmp_path / "rows.jsonl"))), code=2)
    assert message in stderr
    assert "Traceback" not in stderr


def test_damaged_weights_are_named(eval_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").write_bytes(b"torn")
    stderr = _run(eval_python, _spec(tmp_path, model, rows=str(_rows(tmp_path / "rows.jsonl"))), code=2)
    assert f"model m: cannot load {model}" in stderr
    assert "Traceback" not in stderr
