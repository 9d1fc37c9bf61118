"""Trials of `training.micro_batch_size: auto`: real starts of the backends on the longest rows, with little memory."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.contract import Topology
from recipes import load_text
from runner.failure import Failure
from runner.fit.exceeded import moment_of
from runner.machine import diagnose
from runner.runs.rundir import Run
from runner.training.trial import Trial
from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Prepared, inside

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.cold]

RECIPE = """
name: small
backend: {backend}
model: {{path: {model}}}
method: {method}
tuning: {{type: full}}
data: {{train: [{{path: rows.jsonl, format: {format}}}], max_length: 512, validation: {{fraction: 0.1}}}}
training: {{epochs: 3, learning_rate: 0.001, global_batch_size: 8, warmup_steps: 5}}
checkpoint: {{every: 1}}
eval: {{loss_every: 1, every: 2, suites: [perplexity]}}
"""
WORDS = [3, 8, 400, 9, 5, 300, 7] * 4  # of a row's reply; two tokens are about a word
SHOW = """
import sys
from datasets import load_from_disk
print(list(map(len, load_from_disk(sys.argv[1])["train"][sys.argv[2]])))
"""


@contextmanager
def memory(gigabytes: float) -> Iterator[None]:
    """Children may take no more than this for their data."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 1e9), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def a_trial(tmp_path: Path, prepared: Prepared, python: Path, model: Path, **values: str) -> Trial:
    pair = values["method"] == "dpo"
    rows = [
        {"prompt": "q", **({"chosen": "a " * n, "rejected": "b " * 5} if pair else {"response": "a " * n})}
        for n in WORDS
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = RECIPE.format(model=model, format="preference" if pair else "prompt_response", **values)
    (tmp_path / "recipe.yaml").write_text(text)
    run, _ = prepared("recipe.yaml")
    own = run / "recipe.resolved.yaml"
    return Trial(Run(run), load_text(own.read_bytes(), own, (), sources_needed=False), Topology(), python)


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_a_trial_tells_what_memory_is_enough_for_and_leaves_nothing(
    backend: str, tmp_path: Path, prepared: Prepared, tiny_model: Path, request: pytest.FixtureRequest
) -> None:
    python = request.getfixturevalue(f"{backend}_python")
    trial = a_trial(tmp_path, prepared, python, tiny_model, backend=backend, method="sft")
    before = sorted(path for path in trial.run.path.rglob("*") if path.parent.name != "logs")
    with memory(4):
        assert trial.peak_gb(1)
        assert trial.peak_gb(64) is None  # 64 rows of 400 tokens: the logits alone are 5 GB
    assert moment_of(diagnose.tail(trial.log(64), 400))[0] == "logits and loss"
    assert sorted(path for path in trial.run.path.rglob("*") if path.parent.name != "logs") == before
    assert {path.name for path in trial.run.path.glob("logs/trial*")} == {"trial-1.log", "trial-64.log"}
    assert trial.run.read().state == "prepared" and not trial.run.read().attempts


def test_a_preference_s_pairs_are_tried_by_both_replies(
    tmp_path: Path, prepared: Prepared, tiny_model: Path, llamafactory_python: Path
) -> None:
    trial = a_trial(tmp_path, prepared, llamafactory_python, tiny_model, backend="llamafactory", method="dpo")
    trial._rows(6, tmp_path / "log")
    found = inside(llamafactory_python, SHOW, str(trial.directory / "data/tokenized"), "chosen_input_ids", cwd=tmp_path)
    lengths = json.loads(found)
    assert len(lengths) == 6 and lengths == sorted(lengths, reverse=True) and lengths[3] > 350
    assert trial.peak_gb(2)


def test_what_fails_for_another_reason_is_no_lack_of_memory(
    tmp_path: Path, prepared: Prepared, tiny_model: Path, llamafactory_python: Path
) -> None:
    trial = a_trial(tmp_path, prepared, llamafactory_python, tiny_model, backend="llamafactory", method="sft")
    (tiny_model / "model.safetensors").rename(tiny_model / "kept")
    try:
        with pytest.raises(Failure, match=r"the trial of training\.micro_batch_size"):
            trial.peak_gb(1)
    finally:
        (tiny_model / "kept").rename(tiny_model / "model.safetensors")
    assert not trial.directory.exists()
