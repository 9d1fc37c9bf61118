"""Where a trained model's generation stops."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from adapters.stops import write_end_tokens

END = {"ids": [0, 2], "token": "<|im_end|>", "tokenizer": True}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("generation", [None, {"eos_token_id": 0, "temperature": 0.5}])
def test_the_ends_are_written_beside_all_else(generation: dict[str, Any] | None, tmp_path: Path) -> None:
    model = tmp_path / "model"
    tokenizer = write(model / "tokenizer_config.json", {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})
    if generation:
        write(model / "generation_config.json", generation)
    write_end_tokens(model, write(tmp_path / "accounting.json", {"end_tokens": END}))
    found = json.loads((model / "generation_config.json").read_text())
    assert found == {**(generation or {}), "eos_token_id": [0, 2]}
    assert json.loads(tokenizer.read_text()) == {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def test_a_checkpoint_that_the_model_links_to_stays_as_it_is(tmp_path: Path) -> None:
    kept = write(tmp_path / "checkpoint" / "generation_config.json", {"eos_token_id": 0})
    (tmp_path / "model").mkdir()
    os.link(kept, tmp_path / "model" / kept.name)
    write_end_tokens(tmp_path / "model", write(tmp_path / "a.json", {"end_tokens": {**END, "tokenizer": False}}))
    assert json.loads(kept.read_text()) == {"eos_token_id": 0}


def test_nothing_is_written_where_the_model_knows_its_ends(tmp_path: Path) -> None:
    write_end_tokens(tmp_path, write(tmp_path / "a.json", {"end_tokens": None}))
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
