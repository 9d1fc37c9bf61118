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
from pathlib import Path

import pytest

from runner.machine import process
from runner.machine.process import clean_environment
from runner.runs.rundir import Run
from tests.real.conftest import Recipe
from tests.real.test_nodes import free_port

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


def test_a_run_is_served_until_interrupted(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    given = [f"model.path={tiny_model}", "training.max_steps=2", "data.train[0].max_samples=24", "eval.loss_every=null"]
    given += ["model.trust_remote_code=true"]  # its own code is none, but the server is to be told
    recipe("run", "quickstart", "--name", "r", "--no-eval", *[part for field in given for part in ("--set", field)])
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(port)))
        taken.listen()
        assert "something listens" in recipe("serve", "r", "--port", port, code=2).stderr

    command = [sys.executable, "-m", "runner.cli", "serve", "r", "--port", port, "--", "--max-model-len", "256"]
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[2]), "VLLM_CPU_KVCACHE_SPACE": "1"})
    server = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    run = Run(tmp_path / "runs/r")
    try:
        said = [""]
        while "ready; ^C" not in said[-1]:
            assert server.poll() is None and server.stderr, (run.path / "logs/serve.log").read_text()[-3000:]
            said.append(server.stderr.readline())
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
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
    time.sleep(0.5)
    assert process.marked(run.mark("serve")) == []
