"""CONTRIBUTING's table is true: a method, a suite and a backend are added to a copy by what it says, and a run goes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.real.toy.project import make, python

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_what_contributing_says_is_enough(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    print(*make(copy), sep="\n")
    table = python(copy, "-m", "adapters.support").stdout.strip()
    for readme in (copy / "README.md", copy / "README.zh.md"):
        shown = re.sub(r"(checked by a test -->\n\n).*?(\n\n<!-- end)", lambda m: m[1] + table + m[2],
                       readme.read_text(encoding="utf-8"), flags=re.DOTALL)  # fmt: skip
        readme.write_text(shown, encoding="utf-8")
    golden = python(copy, "-m", "pytest", "tests/adapters/test_plans.py", "--golden", "-q")
    assert golden.returncode == 0, golden.stdout[-3000:]
    fast = python(copy, "-m", "pytest", "-m", "not real and not browser", "-q", "-n", "2")
    assert fast.returncode == 0, fast.stdout[-3000:]
    types = python(copy, "-m", "mypy")
    assert types.returncode == 0, types.stdout[-3000:]
    settings = ["--set", f"model.path={tiny_model}", "--runs-dir", "runs"]
    assert '"adapters.toy.train"' in python(copy, "-m", "runner.cli", "plan", "echo_toy", "--json", *settings).stdout
    run = python(copy, "-m", "runner.cli", "run", "echo_toy", *settings)
    assert run.returncode == 0, run.stderr
    results = json.loads((copy / "runs/echo_toy/eval/results.json").read_text())
    assert results["metrics"]["figures.accuracy"]["n"] == 1 and results["metrics"]["perplexity"]["n"] == 2
    assert (copy / "runs/echo_toy/model/config.json").is_file()
