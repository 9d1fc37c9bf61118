"""What an answer's key rests on: any file that changes what a model says changes its hash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.engines.directory import ModelFiles


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    for name in ("base", "adapter"):
        (tmp_path / name).mkdir()
    (tmp_path / "base/config.json").write_text('{"num_hidden_layers": 2}')
    (tmp_path / "base/model.safetensors").write_bytes(b"base weights")
    (tmp_path / "adapter/adapter_config.json").write_text('{"lora_alpha": 16}')
    (tmp_path / "adapter/adapter_model.safetensors").write_bytes(b"adapter weights")
    return ModelFiles(tmp_path / "adapter", tmp_path / "base")


@pytest.mark.parametrize(
    "file,change",
    [
        ("adapter/adapter_config.json", b'{"lora_alpha": 32}'),
        ("adapter/adapter_model.safetensors", b"other weights!!"),
        ("base/config.json", b'{"num_hidden_layers": 3}'),
        ("base/model.safetensors", b"base weightz"),
    ],
)
def test_each_file_counts(model: ModelFiles, file: str, change: bytes) -> None:
    before = model.hash()
    (model.directory.parent / file).write_bytes(change)
    assert model.hash() != before


def test_a_copy_has_the_same_hash(model: ModelFiles, tmp_path: Path) -> None:
    before = model.hash()
    config = model.directory / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text())))
    assert ModelFiles(model.directory, model.base).hash() == before
