"""A newcomer's path: one's own recipe, edited as text, checked, trained, asked, merged and served."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.machine.process import clean_environment
from tests.real.conftest import Recipe, losses
from tests.real.test_nodes import free_port
from tests.real.test_serve import ask

pytestmark = [pytest.mark.real, pytest.mark.slow]
QUESTION = "What is a bond?"


def edit(file: Path, old: str, new: str) -> None:
    """As in an editor: replace the one line that is like `old`, and leave the rest as it is."""
    text, count = re.subn(rf"(?m)^{old}$", lambda _: new, file.read_text(encoding="utf-8"))
    assert count == 1, f"{old} is there {count} times"
    file.write_text(text, encoding="utf-8")


def test_from_a_new_recipe_to_a_served_model(
    recipe: Recipe, tiny_model: Path, vllm_python: Path, tmp_path: Path
) -> None:
    mine = tmp_path / recipe("new", "quickstart", "-o", "mine.yaml").stdout.strip()
    edit(mine, r"  path: bundled:.*", f"  path: {tiny_model}")
    edit(mine, r"  max_steps: \d+", "  max_stepz: 12")
    said = recipe("validate", "mine.yaml", code=2).stderr
    assert re.search(r"mine\.yaml:\d+:\d+: training\.max_stepz: unknown field; did you mean 'max_steps'\?", said), said
    edit(mine, r"  max_stepz: 12", "  max_steps: 12")
    edit(mine, r"  learning_rate: .*", "  learning_rate: 2.0e-2")
    edit(mine, r"  suites: .*", "  suites: [perplexity]\n  max_samples: 4")
    recipe("validate", "mine.yaml")

    run = tmp_path / recipe("run", "mine.yaml").stdout.splitlines()[-1]
    assert run == tmp_path / "runs/mine" and len(losses(run)) == 12 and losses(run)[-1] < losses(run)[0]
    assert json.loads((run / "eval/results.json").read_text())["metrics"]["perplexity"]["n"] == 4

    reply = recipe("chat", "mine", "--prompt", QUESTION, "--max-new-tokens", "8").stdout.strip()
    assert reply, "nothing to compare what is merged and served with"
    recipe("merge", "mine", "--test-prompt", QUESTION)
    ours, theirs = json.loads((run / "merged/merge.json").read_text())["replies"]
    assert ours == theirs and ours.startswith(reply)  # greedy, and more tokens of the same

    exported = Path(recipe("export", "mine", "--to", "fp8", "--fast").stdout.splitlines()[-1])
    assert list(exported.glob("*.safetensors"))
    assert served(tmp_path, run) == reply


def served(directory: Path, run: Path) -> str:
    """The answer to one request by `recipe serve`, which ends on ^C."""
    port = free_port()
    command = [sys.executable, "-m", "runner.cli", "serve", "mine", "--port", port, "--", "--max-model-len", "256"]
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[2]), "VLLM_CPU_KVCACHE_SPACE": "1"})
    server = subprocess.Popen(command, cwd=directory, env=env, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while "ready; ^C" not in said:
            assert server.poll() is None and server.stderr, (run / "logs/serve.log").read_text()[-3000:]
            said = server.stderr.readline()
        return ask(port, "mine").strip()
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
