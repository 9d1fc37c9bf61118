"""`recipe import` of torchtune's configurations: what its parts do by default, and what recipes do not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runner.test_imports_same import TORCHTUNE, field, imported, lost


def changed(key: str, **values: Any) -> dict[str, Any]:
    """torchtune's configuration with other keys below one of its own; None takes one out."""
    below = {**TORCHTUNE.get(key, {}), **values}
    return {**TORCHTUNE, key: {name: value for name, value in below.items() if value is not None}}


@pytest.mark.parametrize("name", ["torch.optim.AdamW", "bitsandbytes.optim.PagedAdamW8bit"])
@pytest.mark.parametrize("decay", [None, 0.0, 0.1])
def test_an_optimizer_decays_as_torch_does_by_default(name: str, decay: float | None, tmp_path: Path) -> None:
    found = imported(tmp_path, changed("optimizer", _component_=name, weight_decay=decay))
    assert field(found, "training.weight_decay") == (0.01 if decay is None else decay)


def test_a_schedule_that_recipes_do_not_have_is_told(tmp_path: Path) -> None:
    found = imported(tmp_path, changed("lr_scheduler", _component_="x.get_rsqrt_schedule", num_warmup_steps=9))
    assert "lr_scheduler" in lost(found) and field(found, "training.warmup_steps") == 9


PREFERENCE = {"_component_": "torchtune.datasets.preference_dataset", "source": "a/b"}
LOSSES = st.fixed_dictionaries({}, optional={"beta": st.floats(0.2, 3), "label_smoothing": st.just(0.1)})


@given(st.sampled_from(["DPOLoss", "SimPOLoss", "RSOLoss"]), LOSSES)
def test_the_loss_of_pairs_is_the_method(
    tmp_path_factory: pytest.TempPathFactory, name: str, keys: dict[str, float]
) -> None:
    if name != "DPOLoss":
        keys = {key: value for key, value in keys.items() if key == "beta"}
    values = changed("loss", _component_=f"torchtune.rlhf.loss.{name}", **keys) | {"dataset": PREFERENCE}
    found = imported(tmp_path_factory.mktemp("one"), values)
    assert field(found, "method") == ("simpo" if name == "SimPOLoss" else "dpo") and not found.problems
    assert ("loss" in lost(found)) == (name == "RSOLoss")
    told = {} if name == "RSOLoss" else {"beta": 2.0, "gamma": 0.5} | keys if name == "SimPOLoss" else keys
    assert (field(found, "preference") or {}) == told


@pytest.mark.parametrize("length", [None, 512])
@pytest.mark.parametrize("kind", ["chat_dataset", "text_completion_dataset"])
def test_a_row_that_is_too_long_is_not_left_out(length: int | None, kind: str, tmp_path: Path) -> None:
    values = changed("dataset", _component_=f"torchtune.datasets.{kind}", column="body" if "text" in kind else None)
    found = imported(tmp_path, {**values, "tokenizer": {"_component_": "t", "max_seq_len": length}})
    if kind == "chat_dataset":
        assert field(found, "data.overlong") == ("truncate" if length else "error")
    else:
        assert field(found, "method") == "pretrain" and field(found, "data.train")[0]["columns"] == {"text": "body"}
    assert field(found, "data.max_length") == length and not found.problems


@pytest.mark.parametrize("given", [None, True, False])
def test_that_torchtune_trains_on_alpacas_prompts_is_told(given: bool | None, tmp_path: Path) -> None:
    dataset = {"_component_": "torchtune.datasets.alpaca_cleaned_dataset", "train_on_input": given}
    found = imported(tmp_path, changed("dataset", source=None, **dataset))
    assert ("dataset.train_on_input" in lost(found)) == (given is not False)
