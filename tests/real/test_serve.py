"""Serving: a run's model answers OpenAI's chat requests, and ^C leaves no process behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.machine import process
from runner.machine.process import clean_environment
from runner.runs.rundir import Run
from tests.real.conftest import Recipe
from tests.real.test_data import recipe_for
from tests.real.test_nodes import free_port
from tests.real.test_tool_calls import TEMPLATES, talk

pytestmark = pytest.mark.real


def ask(port: str, name: str) -> str:
    body = {
        "model": name,
        "max_tokens": 8,
        "temperature": 0,
        "messages": [{"role": "user", "content": "What is a bond?"}],
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    return str(answer["choices"][0]["message"]["content"])


@contextmanager
def served(tmp_path: Path, run: Run) -> Iterator[tuple[str, list[str]]]:
    """A port on which a run is served, and what its server said before it was ready; interrupted at the end."""
    port = free_port()
    command = [sys.executable, "-m", "runner.cli", "serve", run.name, "--port", port, "--", "--max-model-len", "256"]
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[2]), "VLLM_CPU_KVCACHE_SPACE": "1"})
    server = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    try:
        said = [""]
        while "ready; ^C" not in said[-1]:
            log = run.path / "logs/serve.log"
            assert server.poll() is None and server.stderr, (said, log.read_text()[-3000:] if log.is_file() else "")
            said.append(server.stderr.readline())
        yield port, said
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
    time.sleep(0.5)
    assert process.marked(run.mark(f"serve-{port}")) == []


@pytest.mark.slow
def test_a_server_is_asked_with_tools_and_calls(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """vLLM tells a tool that has no description of its own that it has none, and so is asked by other tokens."""
    rows = [talk(n) for n in (3, 5, 7)]
    bare = json.loads(rows[2]["tools"])
    del bare[0]["description"]
    file = recipe_for([*rows[:2], {**rows[2], "tools": bare}], tmp_path, tiny_model)
    recipe("run", file, "--name", "r", "--no-eval", "--set", f"model.chat_template={TEMPLATES / 'qwen'}.jinja")
    with served(tmp_path, Run(tmp_path / "runs/r")) as (port, said):
        address = ["--server", f"http://127.0.0.1:{port}"]
        assert "not asked by the tokens that its replies were trained behind: row 3, turn 2" in said[-2]
        assert "4 of 6 prompts" in recipe("tokens", "r", *address, code=1).stdout
        for row in ("1", "2"):
            shown = recipe("tokens", "r", "--row", row, *address).stdout
            assert shown.count("2 of 2 prompts are as they were trained") == 2
        shown = recipe("tokens", "r", "--row", "3", *address, code=1).stdout
        assert "transformers: 2 of 2" in shown and f"<- {address[1]} asks for turn 2 by " in shown


def test_a_run_is_served_until_interrupted(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    given = [f"model.path={tiny_model}", "training.max_steps=2", "data.train[0].max_samples=24", "eval.loss_every=null"]
    given += ["model.trust_remote_code=true"]  # its own code is none, but the server is to be told
    recipe("run", "quickstart", "--name", "r", "--no-eval", *[part for field in given for part in ("--set", field)])
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(port)))
        taken.listen()
        assert "something listens" in recipe("serve", "r", "--port", port, code=2).stderr

    run = Run(tmp_path / "runs/r")
    with served(tmp_path, run) as (port, said):
        assert "4 prompts are equal" in said[-2]
        assert "'trust_remote_code': True" in (run.path / "logs/serve.log").read_text()
        assert ask(port, "r") and (run.path / "merged/merge.json").is_file()
        with pytest.raises(urllib.error.HTTPError):
            ask(port, "another")
        compare = ["tokens", "r", "--server", f"http://127.0.0.1:{port}/v1"]
        assert recipe(*compare).stdout.count("4 of 4 prompts are as they were trained") == 2
        template = run.model / "chat_template.jinja"
        template.write_text(template.read_text() + "{{ ' ' if add_generation_prompt }}")
        told = recipe(*compare, code=1).stdout.splitlines()
        assert "transformers: 0 of 4" in told[0] and "row 1, turn 2: token " in told[1] and "4 of 4" in told[-1]
