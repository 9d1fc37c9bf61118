"""CONTRIBUTING's table is true: a method, a suite and a backend are added to a copy by what it says, and a run goes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.machine.process import clean_environment

pytestmark = [pytest.mark.real, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
# File, what is there, what comes after it: all that is touched outside of new files.
EDITS = {
    "a method": [
        ("recipes/methods.py", '"full": 1e-6}, rewards=True),\n',
         '        Method(name="echo", rows=CONVERSATIONS, learning_rate={"lora": 1e-4, "full": 1e-5}),\n'),
        ("recipes/recipe.schema.json", '"enum": ["sft", "dpo", "orpo", "kto", "grpo"', ', "echo"'),
    ],
    "a suite": [
        ("recipes/suites.py", '"longbench", "reference", "generation"', ', "figures"'),
        ("recipes/recipe.schema.json", '"longbench", "reference", "generation"', ', "figures"'),
    ],
    "a backend": [
        ("adapters/__init__.py", '"verl": "adapters.verl"', ', "toy": "adapters.toy"'),
        ("adapters/support.py", '"verl": verl', ', "toy": toy'),
        ("adapters/support.py", "from adapters import BACKENDS, backend, llamafactory, ", "toy, "),
        ("recipes/recipe.schema.json", '"enum": ["llamafactory", "verl"', ', "toy"'),
    ],
}  # fmt: skip
RECIPE = """\
backend: toy
method: echo
model: {path: MODEL}
data: {train: [{path: data/finance_qa.jsonl, max_samples: 16}], validation: {fraction: 0.25}}
training: {max_steps: 6, global_batch_size: 4, micro_batch_size: 2}
eval: {suites: [perplexity, figures], max_samples: 2, max_new_tokens: 4, data: {figures: figures.jsonl}, base: false}
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("copy") / "project"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    return target


def python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment({"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"})
    return subprocess.run([sys.executable, *arguments], cwd=copy, env=env, capture_output=True, text=True, check=False)


def test_what_contributing_says_is_enough(copy: Path, tiny_model: Path) -> None:
    suite = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    (copy / "eval/suites/figures.py").write_text(suite, encoding="utf-8")
    shutil.copytree(ROOT / "tests/real/toy", copy / "adapters/toy", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "recipes/echo_toy.yaml").write_text(RECIPE.replace("MODEL", "bundled:smollm2-135m-instruct"))
    (copy / "recipes/figures.jsonl").write_text('{"question": "What is 5 % of 300?", "answer": "15"}\n')
    for what, edits in EDITS.items():
        for file, before, after in edits:
            text = (copy / file).read_text(encoding="utf-8")
            assert text.count(before) == 1, f"{what}: {file}: {before!r}"
            (copy / file).write_text(text.replace(before, before + after), encoding="utf-8")
        files, lines = {file for file, _, _ in edits}, len(edits)
        print(f"{what}: {lines} lines in {len(files)} files")
        assert lines <= 4 and len(files) <= 3
    readme = copy / "README.md"
    table = python(copy, "-m", "adapters.support").stdout.strip()
    shown = re.sub(r"(checked by a test -->\n\n).*?(\n\n<!-- end)", lambda m: m[1] + table + m[2],
                   readme.read_text(encoding="utf-8"), flags=re.DOTALL)  # fmt: skip
    readme.write_text(shown, encoding="utf-8")
    golden = python(copy, "-m", "pytest", "tests/adapters/test_plans.py", "--golden", "-q")
    assert golden.returncode == 0, golden.stdout[-3000:]
    fast = python(copy, "-m", "pytest", "-m", "not real and not browser", "-q", "-n", "2")
    assert fast.returncode == 0, fast.stdout[-3000:]
    types = python(copy, "-m", "mypy")
    assert types.returncode == 0, types.stdout[-3000:]
    runs(copy, tiny_model)


def runs(copy: Path, model: Path) -> None:
    """Plan, run, a kill in the middle, resume, score, compare."""
    settings = ["--set", f"model.path={model}", "--runs-dir", "runs"]
    assert '"adapters.toy.train"' in python(copy, "-m", "runner.cli", "plan", "echo_toy", "--json", *settings).stdout
    env = clean_environment({"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"})
    command = [sys.executable, "-m", "runner.cli", "run", "echo_toy", "--no-eval", *settings]
    first = subprocess.Popen(command, cwd=copy, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    run, deadline = copy / "runs/echo_toy", time.monotonic() + 400
    while not list(run.glob("checkpoints/step-2")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(1)
    resumed = python(copy, "-m", "runner.cli", "resume", "echo_toy")
    assert resumed.returncode == 0, resumed.stderr
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 7))
    results = json.loads((run / "eval/results.json").read_text())
    assert results["metrics"]["figures.accuracy"]["n"] == 1 and results["metrics"]["perplexity"]["n"] == 2
    assert (run / "model/config.json").is_file()
