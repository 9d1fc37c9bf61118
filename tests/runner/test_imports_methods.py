"""`recipe import`: which method a configuration trains by, and that a key without a value is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.runner.test_imports_same import AXOLOTL, GRPO, LLAMAFACTORY, field, imported, lost


@pytest.mark.parametrize("named", ["gae", "remax", None])
def test_that_ppo_is_no_grpo_is_told(named: str | None, tmp_path: Path) -> None:
    values = {key: value for key, value in GRPO.items() if key != "algorithm.adv_estimator"}
    found = imported(tmp_path, values | ({"algorithm.adv_estimator": named} if named else {}))
    assert "algorithm.adv_estimator" in lost(found) and field(found, "grpo.advantage") is None


def test_a_reward_model_of_axolotl_is_one(tmp_path: Path) -> None:
    source = {"path": "a/b", "type": "bradley_terry.chat_template"}
    found = imported(tmp_path, {**AXOLOTL, "reward_model": True, "datasets": [source]})
    assert field(found, "method") == "reward" and "reward_model" not in lost(found) and not found.problems


EMPTY = ("special_tokens", "fsdp", "fsdp_config", "deepspeed", "resume_from_checkpoint", "lora_model_dir", "any_key")


@given(st.sampled_from([LLAMAFACTORY, AXOLOTL]), st.sets(st.sampled_from(EMPTY)))
def test_a_key_without_a_value_is_none(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], empty: set[str]
) -> None:
    directory = tmp_path_factory.mktemp("one")
    found = imported(directory, {**values, **dict.fromkeys(empty)})
    assert found == imported(directory, values)


@pytest.mark.parametrize("own", ["custom_reward_function", "reward.custom_reward_function"])
@pytest.mark.parametrize("name", [None, "mine"])
def test_a_function_of_ones_own_is_the_reward(own: str, name: str | None, tmp_path: Path) -> None:
    found = imported(tmp_path, {**GRPO, f"{own}.path": "r.py", **({f"{own}.name": name} if name else {})})
    assert field(found, "grpo.rewards") == [{"type": "function", "path": f"r.py:{name or 'compute_score'}"}]


@pytest.mark.parametrize("schedule", ["cosine", "cosine_with_min_lr", "polynomial"])
def test_what_a_schedule_takes_goes_with_it(schedule: str, tmp_path: Path) -> None:
    """Another schedule ends in its first step with the keys of this one."""
    keys = {"lr_scheduler_type": schedule, "lr_scheduler_kwargs": {"num_cycles": 0.4}}
    found = imported(tmp_path, LLAMAFACTORY | keys)
    assert (keys.keys() <= lost(found)) == (schedule != "cosine") and not found.problems
    told = {"lr_scheduler_kwargs": {"num_cycles": 0.4}} if schedule == "cosine" else None
    assert field(found, "backend_options") == told


KINDS = st.lists(st.sampled_from(["full_shard", "auto_wrap", "shard_grad_op", "offload"]), unique=True, max_size=3)


@given(
    st.sampled_from([LLAMAFACTORY, AXOLOTL]),
    st.none() | KINDS | KINDS.map(" ".join),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, "fsdp.json", {"fsdp_offload_params": True}]),
)
def test_a_model_that_is_sharded_whole_is_so_in_the_recipe(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], kinds: Any, version: int | None, config: Any
) -> None:
    keys = {"fsdp": kinds, "fsdp_config": config, "fsdp_version": version}
    found = imported(tmp_path_factory.mktemp("one"), values | keys, gpus=8)
    names = kinds.split() if isinstance(kinds, str) else kinds or []
    whole = "full_shard" in names or (kinds is None and isinstance(config, dict))
    whole = whole and not {"shard_grad_op", "offload"} & set(names)
    told = field(found, "distributed.strategy")
    assert told == (None if not whole else "fsdp2" if version == 2 else "fsdp") and not found.problems
    assert {key for key, value in keys.items() if value} <= {entry.key for entry in found.entries}
    assert config is None or "fsdp_config" in lost(found)


RATES = st.dictionaries(st.sampled_from(["learning_rate", "num_train_epochs", "seed"]), st.sampled_from([1, 0.5]))


@given(RATES, RATES, RATES, st.booleans())
def test_merged_keys_are_those_that_yaml_has(
    tmp_path_factory: pytest.TempPathFactory,
    own: dict[str, Any],
    one: dict[str, Any],
    other: dict[str, Any],
    nested: bool,
) -> None:
    """The file's own keys first, then those of the first mapping that is merged."""
    first = f"&one {{<<: *other{''.join(f', {key}: {value}' for key, value in one.items())}}}" if nested else None
    text = yaml.safe_dump({**LLAMAFACTORY, **own})
    text += f"parts:\n  - &other {other or '{}'}\n  - {first or f'&one {one}'}\n".replace("'", "")
    text += "<<: *one\n" if nested else "<<: [*one, *other]\n"
    found = imported(tmp_path_factory.mktemp("one"), text)
    plain = imported(tmp_path_factory.mktemp("one"), other | one | LLAMAFACTORY | own)
    assert [entry for entry in found.entries if entry.key != "parts"] == list(plain.entries)
    assert field(found, "training") == field(plain, "training")
