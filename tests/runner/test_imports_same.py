"""`recipe import`: a key becomes what its tool does by it, beside its other keys and where it is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner.imports.read import Imported, import_file

LLAMAFACTORY = {"model_name_or_path": "a/b", "dataset": "rows", "stage": "sft", "finetuning_type": "lora", "bf16": True}


def imported(directory: Path, values: object, name: str = "theirs.yaml", gpus: int = 1) -> Imported:
    file = directory / name
    file.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return import_file(file, gpus)


def field(found: Imported, name: str) -> Any:
    """A field of the recipe's text; None where it is not in it."""
    node: Any = yaml.safe_load(found.text)
    for key in name.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def lost(found: Imported) -> set[str]:
    return {entry.key for entry in found.entries if entry.status == "no place"}


INERT = ("train_on_prompt", "image_max_pixels", "streaming", "infer_backend", "rope_scaling", "upcast_layernorm")
BROKEN = st.sampled_from([{"cutoff_len": 0}, {"dataset": None}, {"lora_rank": "many"}, {"learning_rate": 3}])


@given(st.sets(st.sampled_from(INERT)), BROKEN)
def test_what_the_backend_does_not_do_is_told_of_a_broken_recipe_too(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], broken: dict[str, Any]
) -> None:
    directory = tmp_path_factory.mktemp("one")
    values = {**LLAMAFACTORY, **dict.fromkeys(keys, True)}
    whole, found = imported(directory, values), imported(directory, values | broken)
    assert found.problems and not whole.problems
    assert lost(found) - {"dataset"} == lost(whole) - {"dataset"}
