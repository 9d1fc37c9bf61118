"""A copy of the project with a method, a suite and the toy backend added, by what CONTRIBUTING's table says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from runner.machine.process import clean_environment

ROOT = Path(__file__).parents[3]
# File, what is there, what comes after it: all that is touched outside of new files.
EDITS = {
    "a method": [
        ("recipes/methods.py", '"full": 1e-6}, rewards=True),\n',
         '        Method(name="echo", rows=CONVERSATIONS, learning_rate={"lora": 1e-4, "full": 1e-5}),\n'),
        ("recipes/recipe.schema.json", '"simpo", "kto", "reward", "grpo"', ', "echo"'),
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


def make(target: Path) -> Iterator[str]:
    """Copy what git knows of the project, and add one of each; yields what was touched outside of new files."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    suite = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    (target / "eval/suites/figures.py").write_text(suite, encoding="utf-8")
    shutil.copytree(ROOT / "tests/real/toy", target / "adapters/toy", ignore=shutil.ignore_patterns("__pycache__"))
    (target / "adapters/toy/project.py").unlink()
    (target / "recipes/echo_toy.yaml").write_text(RECIPE.replace("MODEL", "bundled:smollm2-135m-instruct"))
    (target / "recipes/figures.jsonl").write_text('{"question": "What is 5 % of 300?", "answer": "15"}\n')
    for what, edits in EDITS.items():
        for file, before, after in edits:
            text = (target / file).read_text(encoding="utf-8")
            assert text.count(before) == 1, f"{what}: {file}: {before!r}"
            (target / file).write_text(text.replace(before, before + after), encoding="utf-8")
        touched = {file for file, _, _ in edits}
        assert len(edits) <= 4 and len(touched) <= 3
        yield f"{what}: {len(edits)} lines in {len(touched)} files"


def python(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy, by its own modules."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True, check=False)


def environment(project: Path) -> dict[str, str]:
    return clean_environment({"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"})
