"""Merging: the merged model is base and adapter, and what is not is refused and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import Recipe, inside

pytestmark = pytest.mark.real

ZEROED = """
import sys
from safetensors.torch import load_file, save_file
file = sys.argv[1] + "/adapter_model.safetensors"
save_file({name: value * 0 for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
"""


def test_a_merged_model_scores_as_its_adapter_on_its_base(
    recipe: Recipe, on_the_hub: Path, eval_python: Path, tmp_path: Path
) -> None:
    """The base is the revision of the recipe for training, scoring and merging alike."""
    given = [
        "model={path: acme/tiny, revision: v1}",
        "training.max_steps=3",
        "data.train[0].max_samples=40",
        "eval.loss_every=null",
    ]
    recipe("run", "quickstart", "--name", "r", "--no-eval", *[part for field in given for part in ("--set", field)])
    run = tmp_path / "runs/r"
    merged = Path(recipe("merge", "r").stdout.strip())
    assert merged == run / "merged" and json.loads((merged / "merge.json").read_text())["largest_difference_nat"] < 1e-4
    assert {file.name for file in merged.iterdir()} >= {"model.safetensors", "config.json", "tokenizer.json"}

    recipe("eval", "r", "--suites", "perplexity")
    scored = json.loads((run / "eval/results.json").read_text())["provenance"]["model"]
    assert scored["base"] == str(on_the_hub)
    adapter = json.loads((run / "eval/results.json").read_text())["metrics"]["perplexity"]["value"]
    done = recipe("eval", "--model", str(merged), "--data", str(run / "data/validation.jsonl"), "--json")
    whole = json.loads(done.stdout)["metrics"]["perplexity"]["value"]
    assert whole == pytest.approx(adapter, rel=1e-5)

    assert "is there already" in recipe("merge", "r", code=2).stderr
    half = Path(recipe("merge", "r", "--dtype", "bfloat16", "--output", "half").stdout.strip())
    assert json.loads((half / "config.json").read_text())["dtype"] == "bfloat16"

    inside(eval_python, ZEROED, str(run / "model"), cwd=tmp_path)
    said = recipe("merge", "r", "--output", "nothing", code=1).stderr
    assert "the adapter changes no answer" in said and not (tmp_path / "nothing").exists()
