"""A run directory that somebody sent: full of modules named like what children import, none of which runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recipes import load
from runner.machine.process import WRAP
from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Recipe

pytestmark = pytest.mark.real

NAMES = (
    "torch", "transformers", "yaml", "json", "peft", "datasets", "safetensors", "numpy", "tokenizers", "accelerate",
    "trl", "llamafactory", "verl", "ray", "vllm", "hydra", "omegaconf", "tensordict", "runner", "adapters", "eval",
    "recipes",
    "sitecustomize", "usercustomize", "random", "typing", "logging", "pandas", "pyarrow", "jinja2", "huggingface_hub",
    "filelock", "psutil", "tqdm", "requests", "rouge_score_rs", "jieba", "encodings", "site", "argparse", "pathlib",
)  # fmt: skip


def plant(run: Path) -> None:
    """Modules that write down that they ran, in every directory of the run that a child could have as its own."""
    for directory in (run, run / "eval", run / "backend", run / "backend/python", run / "data", run / "logs"):
        directory.mkdir(exist_ok=True)
        for name in NAMES:
            (directory / f"{name}.py").write_text(f"open({str(run / 'RAN')!r}, 'a').write(__file__ + chr(10))")


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_nothing_in_a_run_directory_is_imported(
    backend: str, tiny_model: Path, tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Path(load("quickstart").recipe.data.train[0].path)
    shutil.copyfile(rows, tmp_path / "rows.jsonl")
    settings = [f"backend={backend}", f"model.path={tiny_model}", "training.max_steps=2", "checkpoint.every=1",
                "eval.max_samples=2", "data.train=[{path: rows.jsonl}]"]  # fmt: skip
    (tmp_path / "r.yaml").write_bytes(load("quickstart").source.replace(b"data/finance_qa.jsonl", b"rows.jsonl"))
    overrides = [part for setting in settings[:-1] for part in ("--set", setting)]
    recipe("run", "r.yaml", "--name", "r", "--no-eval", *overrides)
    run = tmp_path / "runs/r"
    plant(run)
    monkeypatch.delenv(WRAP, raising=False)  # each process that follows imports what it needs
    recipe("eval", "r")
    recipe("merge", "r")
    if backend == "verl":  # once is enough, and in `make test-all`
        recipe("export", "r", "--to", "fp8", "--fast")
    shutil.rmtree(run / "model")
    manifest = (run / "run.json").read_text()
    (run / "run.json").write_text(manifest.replace('"state": "succeeded"', '"state": "interrupted"', 1)
                                  .replace('"trained_steps": 2', '"trained_steps": null'))  # fmt: skip
    whole = sorted((run / "checkpoints").glob("*[12]"))
    shutil.rmtree(whole[-1])
    if backend == "verl":
        (run / "checkpoints/latest_checkpointed_iteration.txt").write_text("1")
    recipe("resume", "r")
    recipe("logs", "r")
    recipe("runs")
    assert not (run / "RAN").exists(), (run / "RAN").read_text()
    assert (run / "model/adapter_model.safetensors").is_file()
