"""`recipe import`: a key becomes what its tool does by it, beside its other keys and where it is left out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recipes import UserError
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


AXOLOTL = {"base_model": "a/b", "sequence_len": 512, "micro_batch_size": 1, "learning_rate": 1e-4}
AXOLOTL |= {"datasets": [{"path": "a/b", "type": "alpaca"}]}
VERL = {"model": {"path": "a/b"}, "data": {"train_files": "a.parquet"}, "trainer": {"total_epochs": 1}}
SCHEDULES = st.sampled_from(["cosine", "constant", "constant_with_warmup"])


@given(
    st.sampled_from(["llamafactory", "axolotl", "verl"]),
    SCHEDULES,
    st.sampled_from([None, 0, 5]),
    st.sampled_from([None, 0.0, 0.1]),
)
def test_a_warmup_is_the_one_that_the_tool_takes(
    tmp_path_factory: pytest.TempPathFactory, tool: str, scheduler: str, steps: int | None, ratio: float | None
) -> None:
    given = {"warmup_steps": steps, "warmup_ratio": ratio}
    values: dict[str, Any] = {
        "llamafactory": {**LLAMAFACTORY, **given, "lr_scheduler_type": scheduler},
        "axolotl": {**AXOLOTL, **given, "lr_scheduler": scheduler},
        "verl": {**VERL, "optim": {"lr_warmup_steps": steps, "lr_warmup_steps_ratio": ratio}},
    }[tool]
    if tool == "verl":
        values["optim"]["lr_scheduler_type"] = "cosine" if scheduler == "cosine" else "constant"
    found = imported(tmp_path_factory.mktemp("one"), values)
    constant = tool != "verl" and scheduler == "constant"
    default = 0.03 if tool == "axolotl" and steps is None and ratio is None else None
    assert not found.problems
    assert (field(found, "training.warmup_steps") or None) == (steps or None if not constant else None)
    expected = None if constant or steps else (ratio or default)
    assert (field(found, "training.warmup_ratio") or None) == expected


@given(st.sampled_from(["save_steps", "logging_steps", "warmup_steps", "max_steps"]), st.floats(0.01, 9.99))
def test_a_share_of_the_steps_is_no_count(tmp_path_factory: pytest.TempPathFactory, key: str, share: float) -> None:
    found = imported(tmp_path_factory.mktemp("one"), {**LLAMAFACTORY, key: share})
    assert not found.problems and (key in lost(found)) == (share != int(share))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("packing", "neat_packing"), st.booleans())))
def test_either_key_packs_rows(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, bool]) -> None:
    found = imported(tmp_path_factory.mktemp("one"), LLAMAFACTORY | keys)
    assert bool(field(found, "data.packing")) == any(keys.values()) and not found.problems
    assert keys.keys() <= {entry.key for entry in found.entries}


NAMES = st.lists(st.sampled_from(["<a>", "<b>", "<c>", "<d>"]), unique=True, min_size=1)


@given(NAMES, NAMES.map(lambda names: [name.upper() for name in names]))
def test_tokens_of_both_keys_are_added(
    tmp_path_factory: pytest.TempPathFactory, plain: list[str], special: list[str]
) -> None:
    keys = {"add_tokens": ",".join(plain), "add_special_tokens": ",".join(special)}
    found = imported(tmp_path_factory.mktemp("one"), LLAMAFACTORY | keys)
    assert field(found, "model.add_tokens") == plain + special


OFF = st.sampled_from(["no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"])
ON = st.sampled_from(["yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"])
SWITCHES = ("load_in_4bit", "bf16", "gradient_checkpointing", "sample_packing", "peft_use_dora", "torch_compile")


@given(st.sets(st.sampled_from(SWITCHES)), OFF, ON)
def test_the_words_of_yaml_1_1_are_true_and_false(
    tmp_path_factory: pytest.TempPathFactory, on: set[str], off_word: str, on_word: str
) -> None:
    directory, base = tmp_path_factory.mktemp("one"), {**AXOLOTL, "adapter": "lora", "eval_strategy": "no"}
    words = "".join(f"{key}: {on_word if key in on else off_word}\n" for key in SWITCHES)
    found = imported(directory, yaml.safe_dump(base) + words)
    assert found.text == imported(directory, base | {key: key in on for key in SWITCHES}).text


LAYERS = st.lists(st.sampled_from(["q_proj", "v_proj", "down_proj"]), unique=True, min_size=1)


@given(st.sampled_from([None, False, True]), st.none() | st.just("all-linear") | LAYERS)
def test_axolotl_adapts_all_linear_layers_whatever_it_names_beside(
    tmp_path_factory: pytest.TempPathFactory, every: bool | None, named: str | list[str] | None
) -> None:
    values = {**AXOLOTL, "adapter": "lora", "lora_target_linear": every, "lora_target_modules": named}
    found = imported(tmp_path_factory.mktemp("one"), values)
    only = named if isinstance(named, list) and not every else None
    assert field(found, "tuning.target_modules") == only and not found.problems


def test_a_pattern_of_layers_is_told(tmp_path: Path) -> None:
    pattern = r"model.layers.[\d]+.(mlp|self_attn).(up|q)_proj"
    found = imported(tmp_path, {**AXOLOTL, "adapter": "lora", "lora_target_modules": pattern})
    assert "lora_target_modules" in lost(found) and not found.problems


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("rl_beta", "simpo_gamma", "cpo_alpha"), st.floats(0.2, 3))))
def test_axolotls_simpo_is_trls(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, float]) -> None:
    values = {**AXOLOTL, "rl": "simpo", "datasets": [{"path": "a/b"}], **keys}
    found = imported(tmp_path_factory.mktemp("one"), values)
    told = {"rl_beta": 0.1, "simpo_gamma": 0.5, "cpo_alpha": 1.0} | keys
    told = {"beta": told["rl_beta"], "gamma": told["simpo_gamma"], "sft_weight": told["cpo_alpha"]}
    assert field(found, "preference") == told and not found.problems


@pytest.mark.parametrize(("rl", "key", "name"), [("dpo", "rpo_alpha", "sft_weight"), ("orpo", "orpo_alpha", "beta")])
def test_an_alpha_of_axolotl_is_the_weight_that_it_is(rl: str, key: str, name: str, tmp_path: Path) -> None:
    found = imported(tmp_path, {**AXOLOTL, "rl": rl, "datasets": [{"path": "a/b"}], key: 0.25})
    assert field(found, f"preference.{name}") == 0.25 and not found.problems


def trained(precision: str, given: dict[str, Any]) -> bool:
    return any(given.get(key) is True for key in {"bf16": ("bf16", "bfloat16"), "fp16": ("fp16", "float16")}[precision])


PRECISIONS = ("bf16", "fp16", "bfloat16", "float16")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(PRECISIONS, st.sampled_from([True, False, None]))))
def test_axolotl_computes_in_the_precision_that_is_on(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, bool | None]
) -> None:
    found = imported(tmp_path_factory.mktemp("one"), {**AXOLOTL, **given})
    off = "fp32" if False in (given.get("bf16"), given.get("bfloat16")) else None
    expected = "bf16" if trained("bf16", given) else "fp16" if trained("fp16", given) else off
    assert field(found, "training.precision") == expected and not found.problems


TORCHTUNE: dict[str, Any] = {
    "model": {"_component_": "torchtune.models.llama3_1.llama3_1_8b"},
    "checkpointer": {"checkpoint_dir": "/models/llama"},
    "dataset": {"_component_": "torchtune.datasets.chat_dataset", "source": "a/b"},
    "optimizer": {"_component_": "torch.optim.AdamW", "lr": 1e-4},
    "batch_size": 2,
}
SHARED = {
    "axolotl": ("context_parallel_size", "sequence_parallel_degree", "tensor_parallel_size"),
    "torchtune": ("tensor_parallel_dim", "context_parallel_dim"),
}


@given(st.data(), st.sampled_from(sorted(SHARED)), st.sampled_from([1, 4, 8]), st.integers(1, 3))
def test_gpus_that_share_rows_are_one_batch(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, tool: str, gpus: int, often: int
) -> None:
    sizes = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(SHARED[tool], st.sampled_from([1, 2, 4]))))
    base = {"axolotl": {**AXOLOTL, "micro_batch_size": 2}, "torchtune": TORCHTUNE}[tool]
    values = {**base, "gradient_accumulation_steps": often, **sizes}
    together = math.prod(sizes.values())
    if gpus % together:
        with pytest.raises(UserError, match="--gpus"):
            imported(tmp_path_factory.mktemp("one"), values, gpus=gpus)
    else:
        found = imported(tmp_path_factory.mktemp("one"), values, gpus=gpus)
        assert field(found, "training.global_batch_size") == 2 * often * gpus // together
        assert sizes.keys() <= lost(found)


@pytest.mark.parametrize(
    ("keys", "name", "value"),
    [
        ({"excess_length_strategy": "truncate"}, "data.overlong", "truncate"),
        ({"excess_length_strategy": "raise"}, "data.overlong", "error"),
        ({"attn_implementation": "eager"}, "model.attention", "eager"),
        ({"dataset_exact_deduplication": True}, "data.dedup", "exact"),
        ({"adapter": "lora", "lora_model_dir": "./out"}, "model.adapter_path", "./out"),
    ],
)
def test_a_key_of_axolotl_that_a_field_means_is_taken(
    keys: dict[str, Any], name: str, value: object, tmp_path: Path
) -> None:
    found = imported(tmp_path, {**AXOLOTL, **keys, "train_on_inputs": False})
    assert field(found, name) == value and not lost(found) and not found.problems


COLUMNS = ("instruction", "input", "output", "system")


NAMED = st.fixed_dictionaries({}, optional={one: st.sampled_from([one, "ask", "say"]) for one in COLUMNS})


@given(NAMED, st.booleans())
def test_a_prompt_of_ones_own_names_columns(
    tmp_path_factory: pytest.TempPathFactory, names: dict[str, str], system: bool
) -> None:
    own = {f"field_{one}": name for one, name in names.items()} | {"format": "{instruction}"}
    source = {"path": "a/b", "type": own | ({"system_prompt": "Be brief."} if system else {})}
    found = imported(tmp_path_factory.mktemp("one"), {**AXOLOTL, "datasets": [source]})
    (told,) = field(found, "data.train")
    assert told["format"] == "alpaca" and told.get("system") == ("Be brief." if system else None)
    assert told.get("columns", {}) == {one: name for one, name in names.items() if name != one}
    assert lost(found) == {"datasets[].type.format"}


def test_plugins_beside_ligers_are_told(tmp_path: Path) -> None:
    plugins = ["axolotl.integrations.liger.LigerPlugin", "axolotl.integrations.cut_cross_entropy.X"]
    assert "plugins" in lost(imported(tmp_path, {**AXOLOTL, "plugins": plugins}))


def of_info(directory: Path, one: dict[str, Any], **keys: Any) -> Imported:
    """The import of a file of LLaMA-Factory with one data set of a dataset_info.json."""
    (directory / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json", **one}}))
    return imported(directory, {**LLAMAFACTORY, "dataset_dir": ".", **keys})


@given(st.none() | st.integers(1, 99), st.none() | st.integers(1, 99))
def test_of_two_limits_of_rows_the_smaller_one_holds(
    tmp_path_factory: pytest.TempPathFactory, own: int | None, of_all: int | None
) -> None:
    found = of_info(tmp_path_factory.mktemp("one"), {"num_samples": own}, max_samples=of_all)
    assert field(found, "data.train")[0].get("max_samples") == min((n for n in (own, of_all) if n), default=None)


@given(st.none() | st.just("instruction") | st.sampled_from(["text", "content"]), st.sampled_from([None, True, False]))
def test_documents_of_llamafactory_are_documents(
    tmp_path_factory: pytest.TempPathFactory, column: str | None, packing: bool | None
) -> None:
    one = {"columns": {"prompt": column}} if column else {}
    found = of_info(tmp_path_factory.mktemp("one"), one, stage="pt", packing=packing)
    (source,) = field(found, "data.train")
    assert source["format"] == "text" and source.get("columns", {"text": "text"}) == {"text": column or "instruction"}
    assert not found.problems


TAGS = {
    "role_tag": ("from", "speaker"), "content_tag": ("value", "said"), "user_tag": ("human", "asker"),
    "assistant_tag": ("gpt", "bot"), "system_tag": ("system", "rule"), "observation_tag": ("observation", "seen"),
}  # fmt: skip


@given(st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in TAGS.items()}))
def test_names_of_roles_that_no_row_may_have_are_told(
    tmp_path_factory: pytest.TempPathFactory, tags: dict[str, str]
) -> None:
    found = of_info(tmp_path_factory.mktemp("one"), {"formatting": "sharegpt", "tags": tags})
    odd = {f"rows.tags.{key}" for key, tag in tags.items() if tag != TAGS[key][0]}
    assert {key for key in lost(found) if key.startswith("rows.")} == odd and not found.problems


def test_what_else_a_data_set_of_llamafactory_says_is_taken_or_told(tmp_path: Path) -> None:
    columns = {"messages": "conversations", "images": "images", "tools": "functions"}
    found = of_info(tmp_path, {"formatting": "sharegpt", "columns": columns, "folder": "python"})
    assert field(found, "data.train")[0]["columns"] == {"tools": "functions"}
    assert lost(found) == {"rows.columns.images", "rows.folder"}


@pytest.mark.parametrize("keys", [{"stage": "kto"}, {"stage": "dpo"}, {"stage": "dpo", "pref_loss": "simpo"}])
def test_the_loss_of_sft_beside_preferences_is_taken(keys: dict[str, str], tmp_path: Path) -> None:
    found = imported(tmp_path, {**LLAMAFACTORY, **keys, "pref_ftx": 0.25})
    assert field(found, "preference.sft_weight") == 0.25 and not found.problems


ACTOR = "actor_rollout_ref.actor."
GRPO = {"actor_rollout_ref.model.path": "a/b", "data.train_files": "a.parquet", "algorithm.adv_estimator": "grpo"}
CLIPS = st.fixed_dictionaries({}, optional=dict.fromkeys(("clip_ratio_low", "clip_ratio_high"), st.floats(0.1, 0.4)))


@given(CLIPS, st.none() | st.floats(0.1, 0.4), st.booleans())
def test_the_range_of_verls_clip_is_the_one_that_it_computes_with(
    tmp_path_factory: pytest.TempPathFactory, clips: dict[str, float], both: float | None, sampled: bool
) -> None:
    keys = {f"{ACTOR}{key}": value for key, value in {**clips, "clip_ratio": both}.items()}
    keys |= {"actor_rollout_ref.rollout.n": 5} if sampled else {}
    found = imported(tmp_path_factory.mktemp("one"), GRPO | keys)
    low = field(found, "grpo.clip_ratio") or 0.2
    assert low == clips.get("clip_ratio_low", both or 0.2 if not clips else 0.2)
    assert (field(found, "grpo.clip_ratio_high") or low) == clips.get("clip_ratio_high", 0.2 if clips else low)
    assert not found.problems and ("actor_rollout_ref.rollout.n" in lost(found)) != sampled


@given(st.sampled_from([None, 64, 256, 512, 2048]), st.sampled_from([None, 32, 64]))
def test_a_step_of_verl_has_the_prompts_of_its_mini_batch(
    tmp_path_factory: pytest.TempPathFactory, prompts: int | None, mini: int | None
) -> None:
    keys = {"data.train_batch_size": prompts, f"{ACTOR}ppo_mini_batch_size": mini}
    found = imported(tmp_path_factory.mktemp("one"), GRPO | {key: value for key, value in keys.items() if value})
    of_all = field(found, "training.global_batch_size")
    assert of_all == (prompts or 1024) and not found.problems
    assert (field(found, "grpo.mini_batch_size") or of_all) == (mini or min(256, of_all))


OLD = {"optim.lr": 2e-5, "optim.warmup_steps_ratio": 0.2, "optim.lr_warmup_steps_ratio": 0.2}


@given(st.sets(st.sampled_from(sorted(OLD))))
def test_verls_older_trainer_of_sft_has_its_own_defaults(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str]
) -> None:
    values = {"model.partial_pretrain": "a/b", "data.train_files": "a.parquet", **{key: OLD[key] for key in keys}}
    training = field(imported(tmp_path_factory.mktemp("one"), values), "training")
    assert training["learning_rate"] == (2e-5 if "optim.lr" in keys else 1e-5)
    assert training["warmup_ratio"] == (0.2 if keys - {"optim.lr"} else 0.1)
    assert training["scheduler"] == "cosine" and training["betas"] == [0.9, 0.95]
