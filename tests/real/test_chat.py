"""`recipe chat`: replies are those that the suites get, streamed; conversations go on, begin again and are saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.machine.process import clean_environment
from tests.real.conftest import Recipe, RunOnce
from tests.real.test_llamafactory_backend import LORA, short

pytestmark = pytest.mark.real
GENERATION = ["--set", "eval={suites: [generation], max_new_tokens: 12}", "--set", "training.learning_rate=0.3"]


@pytest.fixture
def run(run_once: RunOnce, tiny_model: Path) -> Path:
    arguments = [one for one in short("quickstart", tiny_model, "--set", LORA, *GENERATION) if one != "--no-eval"]
    return run_once(*arguments)


def answered(run: Path, where: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / where / "generation.jsonl").read_text().splitlines()]


def test_its_replies_are_those_of_the_suites(run: Path, recipe: Recipe) -> None:
    """The same prompt, template and ends, by transformers' own generate here and by our batches there."""
    tuned, base = (answered(run, where)[0] for where in ("eval", "eval/base"))
    (question,) = tuned["prompt"]
    done = recipe("chat", str(run), "base", "--prompt", question["content"], "--max-new-tokens", "12")
    assert done.stdout == f"--- {run.name}\n{tuned['output']}\n--- base\n{base['output']}\n"
    assert tuned["output"] != base["output"]


@pytest.mark.slow
@pytest.mark.usefixtures("vllm_python")
def test_vllm_answers_the_same_by_an_engine_for_each_model(run: Path, recipe: Recipe) -> None:
    tuned, base = (answered(run, where)[0] for where in ("eval", "eval/base"))
    question = tuned["prompt"][0]["content"]
    words = ["chat", str(run), "base", "--engine", "vllm", "--max-new-tokens", "12", "--prompt", question]
    done = recipe(*words)
    assert done.stdout == f"--- {run.name}\n{tuned['output']}\n--- base\n{base['output']}\n"
    assert "loading base in vLLM" in done.stderr


def test_a_conversation_goes_on_begins_again_and_is_saved(run: Path, recipe: Recipe, tmp_path: Path) -> None:
    said = ["What is a bond?", "And a share?", "/retry", "/sav", "/save talk.jsonl"]
    said += ["/system Be brief.", "Hello", "/save two.jsonl", "/quit"]
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli", "chat", str(run), "--max-new-tokens", "6"], cwd=tmp_path,
        input="\n".join(said), env=clean_environment({"PYTHONPATH": str(Path(__file__).parents[2])}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "did you mean '/save'?" in done.stderr
    first, second = (json.loads((tmp_path / name).read_text())["messages"] for name in ("talk.jsonl", "two.jsonl"))
    assert [turn["role"] for turn in first] == ["user", "assistant", "user", "assistant"]
    assert first[2]["content"] == "And a share?" and all(turn["content"] for turn in first)
    assert [turn["role"] for turn in second] == ["system", "user", "assistant"]
    checked = recipe("data", "check", str(tmp_path / "talk.jsonl"))
    assert "messages" in checked.stdout


def test_what_cannot_be_talked_to(run: Path, recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    assert "is no run, so that it has no base" in recipe("chat", str(tiny_model), "base", code=2).stderr
    assert "no such directory" in recipe("chat", "./nothing", code=2).stderr
    (tmp_path / "bare").mkdir()
    assert "bare" in recipe("chat", str(tmp_path / "bare"), "--prompt", "x", code=2).stderr
    long = "word " * 20_000
    assert "positions: /reset" in recipe("chat", str(run), "--prompt", long, code=2).stderr
