"""docs/first_hour.md as a newcomer types it, on a CPU; and the site that holds it is built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import pages
from runner.machine.process import clean_environment
from tests.test_guides import ROOT, blocks

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
    assert "⟦" in done.stdout and "What is a bond" in (mine / "merged/merge.json").read_text()


def test_the_site_is_built_by_one_command() -> None:
    """Strictly; each page is there, and what it loads is its own."""
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    built = {str(path.relative_to(ROOT / "site")) for path in (ROOT / "site").rglob("*.html")}
    assert built >= {page.replace(".md", ".html") for page in pages()}
    assert "training.global_batch_size" in (ROOT / "site/recipe.html").read_text("utf-8")
    assert "recipe new quickstart -o mine.yaml" in (ROOT / "site/verbs/new.html").read_text("utf-8")
