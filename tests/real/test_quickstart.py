"""The quickstart as a user runs it, on both backends: the perplexity of held-out rows clearly falls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.machine.process import clean_environment
from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL

pytestmark = pytest.mark.real


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_the_quickstart_lowers_the_perplexity_of_held_out_rows(backend: str, tmp_path: Path) -> None:
    """Nothing is changed but the one field; the base model is scored beside the tuned one."""
    command = [sys.executable, "-m", "runner.cli", "run", "quickstart", "--set", f"backend={backend}"]
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[2])})
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[-1])
    tuned = json.loads((run / "eval/results.json").read_text())["metrics"]["perplexity"]
    base = json.loads((run / "eval/base/results.json").read_text())["metrics"]["perplexity"]
    print(f"{backend}: perplexity {base['value']:.3f} -> {tuned['value']:.3f} on {tuned['n']} rows")
    assert tuned["n"] == base["n"] == 26 and tuned["failures"] == base["failures"] == 0
    assert tuned["value"] < 0.75 * base["value"]
    assert wins(run) >= 22, "nearly every held-out row must be better, not only the mean"
    assert "perplexity" in done.stderr


def wins(run: Path) -> int:
    """Held-out rows whose reply the tuned model finds more likely than the base model does."""
    before, after = (
        [json.loads(line)["nll"] for line in (run / "eval" / part / "perplexity.jsonl").read_text().splitlines()]
        for part in ("base", ".")
    )
    return sum(now < then for then, now in zip(before, after, strict=True))
