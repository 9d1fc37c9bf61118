"""docs/first_hour.md as a newcomer types it, on a CPU; what the guides do with a run; the site that holds both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import pages
from runner.machine.process import clean_environment
from tests.real.conftest import Recipe
from tests.test_guides import GUIDES, ROOT, blocks, commands

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_the_first_hour_goes_as_it_is_written(tmp_path: Path) -> None:
    """Every block of shell, in its order, in one shell that ends at the first mistake."""
    script = "\n".join(["set -eu", *blocks(ROOT / "docs/first_hour.md", "sh")])
    installed = f'recipe() {{ "{sys.executable}" -m runner.cli "$@"; }}\n'
    env = clean_environment({"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    done = subprocess.run(
        ["bash", "-c", installed + script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    first, mine = tmp_path / "runs/quickstart", tmp_path / "runs/mine"
    tuned, base = (
        json.loads((first / "eval" / part / "results.json").read_text())["metrics"]["perplexity"]["value"]
        for part in (".", "base")
    )
    assert tuned < 0.75 * base, "the page says: by more than a quarter"
    for said in (first / "README.md", first / "eval/report.html", mine / "merged/config.json"):
        assert said.is_file(), said
    assert "⟦" in done.stdout
    ours, theirs = json.loads((mine / "merged/merge.json").read_text())["replies"]
    assert ours == theirs != ""


def test_what_the_guides_do_with_a_run_that_is_there(recipe: Recipe, tiny_model: Path) -> None:
    """Looking at it, at its rows and its earlier steps: the commands that the unit tests cannot run."""
    given = {"model.path": tiny_model, "training.max_steps": 102, "checkpoint.every": 50, "eval.suites": "[perplexity]"}
    sets = [part for field, value in given.items() for part in ("--set", f"{field}={value}")]
    recipe("new", "quickstart", "-o", "mine.yaml", *sets)
    recipe("run", "mine.yaml")
    ran = set()
    for guide in GUIDES:
        if guide.stem in ("slow", "loss_does_not_fall", "over_fitting"):
            for _, words in commands("\n".join(blocks(guide, "sh"))):
                if words[0] in ("data", "runs", "logs", "compare", "merge", "resume") and "eight" not in words:
                    recipe(*words)
                    ran.add(words[0])
    assert ran == {"data", "runs", "logs", "compare", "merge", "resume"}


def test_the_site_is_built_by_one_command() -> None:
    """Strictly; each page is there, and what it loads is its own."""
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    built = {str(path.relative_to(ROOT / "site")) for path in (ROOT / "site").rglob("*.html")}
    assert built >= {page.replace(".md", ".html") for page in pages()}
    assert "training.global_batch_size" in (ROOT / "site/recipe.html").read_text("utf-8")
    shown = re.sub(r"<[^>]+>", "", (ROOT / "site/verbs/new.html").read_text("utf-8"))  # colours stand between words
    assert "recipe new quickstart -o mine.yaml" in shown
