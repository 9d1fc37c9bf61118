"""Recipes from other tools' configurations: each key is somewhere, and what was meant is what the backend gets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import backend
from adapters.contract import Paths, PreparedData, Topology
from adapters.verl.options import tree
from recipes import UserError, load, load_text, trainings
from runner.cli import main
from runner.imports.read import TOOLS, Imported, import_file

EXAMPLES = 2000 if os.environ.get("RECIPE_THOROUGH") else 60
GPUS = Topology(gpus=4, processes=4, devices=tuple("0123"))


def planned(text: str, name: str = "r.yaml", topology: Topology = GPUS) -> dict[str, Any]:
    """The backend's own config of a recipe's text."""
    loaded = load_text(text.encode(), Path(name), sources_needed=False)
    return native(loaded.recipe, topology)


def recipe_of(found: Imported) -> Any:
    return load_text(found.text.encode(), Path("r"), sources_needed=False).recipe


def native(recipe: Any, topology: Topology = GPUS) -> dict[str, Any]:
    paths = Paths(run=Path("/runs/r"), python=Path("/env/bin/python"), model=recipe.model.path)
    files = backend(recipe.backend).plan(recipe, topology, PreparedData(train_rows=99), paths).files
    config: dict[str, Any] = yaml.safe_load(next(text for name, text in files.items() if name.endswith("train.yaml")))
    return config


def imported(tmp_path: Path, values: object, name: str = "theirs.yaml", gpus: int = 4) -> Imported:
    file = tmp_path / name
    file.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return import_file(file, gpus)


# What each of LLaMA-Factory's keys may be; its own words, so its own config after the plan must say the same.
CHOICES: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 5e-6],
    "lr_scheduler_type": ["cosine", "linear"],
    "num_train_epochs": [1.0, 2.5],
    "max_steps": [70],
    "per_device_train_batch_size": [1, 2],
    "gradient_accumulation_steps": [1, 8],
    "warmup_ratio": [0.1],
    "weight_decay": [0.1],
    "max_grad_norm": [0.5],
    "lora_rank": [4, 64],
    "lora_alpha": [7, 128],
    "lora_dropout": [0.1],
    "lora_target": ["all", "q_proj,v_proj"],
    "use_rslora": [True],
    "use_dora": [True],
    "loraplus_lr_ratio": [16.0],
    "quantization_bit": [4, 8],
    "flash_attn": ["auto", "sdpa", "fa2"],
    "enable_liger_kernel": [True],
    "disable_gradient_checkpointing": [True, False],
    "neftune_noise_alpha": [5.0],
    "dataloader_num_workers": [4],
    "logging_steps": [1, 10],
    "save_steps": [100, 500],
    "save_total_limit": [2],
    "seed": [7],
    "adam_beta2": [0.95],
    "adam_epsilon": [1e-6],
    "additional_target": ["lm_head"],
    "bf16": [True],
    "upcast_layernorm": [True],  # a native key
    "torch_empty_cache_steps": [4],
}


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in CHOICES.items()}))
def test_llamafactory_gets_back_what_its_file_said(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Any]
) -> None:
    keys = {"model_name_or_path": "a/b", "dataset": "some/rows", "finetuning_type": "lora", "stage": "sft", **keys}
    found = imported(tmp_path_factory.mktemp("one"), keys)
    assert not found.problems and {entry.key for entry in found.entries} >= keys.keys() - {"dataset"}
    config = planned(found.text)
    for key, value in keys.items():
        if key != "dataset":
            assert config[key] == value, key


DEFAULTS = {"lora_rank": 8, "learning_rate": 5e-5, "lr_scheduler_type": "linear", "per_device_train_batch_size": 8}
DEFAULTS |= {"gradient_accumulation_steps": 1, "save_steps": 500, "logging_steps": 500, "num_train_epochs": 3.0}


def test_what_llamafactory_does_by_default_is_written_out(tmp_path: Path) -> None:
    """Its defaults as its own parser wrote them down are not ours."""
    found = imported(tmp_path, {"model_name_or_path": "a/b", "dataset": "rows"})
    config = planned(found.text)
    assert {key: config[key] for key in DEFAULTS} == DEFAULTS
    assert not config.get("enable_liger_kernel") and not config.get("save_total_limit")
    assert "overlong: truncate" in found.text


@pytest.mark.parametrize("name", [name for name in trainings() if load(name).recipe.backend == "llamafactory"])
def test_the_plan_of_each_of_our_recipes_is_one_that_can_be_imported(name: str, tmp_path: Path) -> None:
    """From the native config of a recipe to a recipe, and from that to the same native config."""
    loaded = load(name)
    topology = Topology()  # a CPU: batches that every recipe divides into
    first = native(loaded.recipe, topology)
    found = imported(tmp_path, first | {"dataset": "some/rows"}, gpus=1)
    second = planned(found.text, topology=topology)
    ours = {"data_shared_file_system", "deepspeed", "dataset", "do_train", "output_dir", "tokenized_path", "pref_beta"}
    differ = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)} - ours
    assert not differ, {key: (first.get(key), second.get(key)) for key in differ}


def test_the_data_sets_of_a_dataset_info_are_sources(tmp_path: Path) -> None:
    info = {
        "own": {"file_name": "own.json", "columns": {"prompt": "question", "response": "answer"}},
        "chat": {"hf_hub_url": "acme/chat", "formatting": "sharegpt", "split": "train_sft", "num_samples": 9,
                 "columns": {"messages": "messages"}, "tags": {"role_tag": "role", "content_tag": "content"}},
        "pairs": {"file_name": "pairs.json", "ranking": True, "formatting": "sharegpt",
                  "columns": {"messages": "conversations", "chosen": "good", "rejected": "bad"}},
        "thumbs": {"file_name": "k.json", "formatting": "sharegpt", "columns": {"messages": "m", "kto_tag": "thumb"}},
        "elsewhere": {"ms_hub_url": "acme/x"},
    }  # fmt: skip
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text(json.dumps(info))
    keys = {"model_name_or_path": "a/b", "dataset": "own, chat,pairs,thumbs,elsewhere,nowhere", "max_samples": 5}
    found = imported(tmp_path, keys | {"interleave_probs": "0.5,0.1,0.1,0.1,0.1,0.1"})
    sources = yaml.safe_load(found.text)["data"]["train"]
    assert [{key: value for key, value in one.items() if key not in ("weight", "max_samples")} for one in sources] == [
        {"path": f"{tmp_path}/data/own.json", "format": "alpaca",
         "columns": {"instruction": "question", "output": "answer"}},
        {"path": "acme/chat", "format": "messages", "split": "train_sft"},
        {"path": f"{tmp_path}/data/pairs.json", "format": "preference",
         "columns": {"prompt": "conversations", "chosen": "good", "rejected": "bad"}},
        {"path": f"{tmp_path}/data/k.json", "format": "feedback", "columns": {"messages": "m", "label": "thumb"}},
        {"path": "elsewhere"},
        {"path": "nowhere"},
    ]  # fmt: skip
    assert [one["weight"] for one in sources] == [0.5, *[0.1] * 5] and {one["max_samples"] for one in sources} == {5}
    lost = [entry.text for entry in found.entries if entry.status == "no place"]
    assert "not ms_hub_url" in lost[0] and "no dataset_info.json says" in lost[1]


AXOLOTL = {
    "base_model": "acme/base", "load_in_4bit": True, "adapter": "qlora", "lora_r": 32, "lora_alpha": 16,
    "lora_dropout": 0.05, "lora_target_linear": True, "sequence_len": 4096, "sample_packing": True,
    "datasets": [{"path": "acme/chat", "type": "chat_template", "field_messages": "conversations",
                  "message_property_mappings": {"role": "from", "content": "value"}},
                 {"path": "json", "data_files": "mine.jsonl", "type": "alpaca"}],
    "val_set_size": 0.05, "gradient_accumulation_steps": 4, "micro_batch_size": 2, "num_epochs": 2,
    "optimizer": "paged_adamw_8bit", "lr_scheduler": "cosine", "learning_rate": "2e-4", "bf16": "auto",
    "gradient_checkpointing": True, "flash_attention": True, "warmup_steps": 10, "evals_per_epoch": 4,
    "saves_per_epoch": 1, "weight_decay": 0.0, "special_tokens": {"pad_token": "x"}, "loss_watchdog_patience": 3,
    "plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_rope": True, "wandb_project": "mine",
}  # fmt: skip


def test_an_axolotl_file_is_a_recipe(tmp_path: Path) -> None:
    found = imported(tmp_path, AXOLOTL)
    assert found.tool == "axolotl" and not found.problems
    assert {entry.key for entry in found.entries} >= AXOLOTL.keys()
    config, recipe = planned(found.text), load_text(found.text.encode(), Path("r"), sources_needed=False).recipe
    expected = {"quantization_bit": 4, "lora_rank": 32, "lora_alpha": 16, "lora_dropout": 0.05, "lora_target": "all"}
    expected |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "learning_rate": 2e-4}
    expected |= {"optim": "paged_adamw_8bit", "num_train_epochs": 2, "enable_liger_kernel": True, "warmup_steps": 10}
    assert expected.items() <= config.items()
    assert recipe.data.packing and recipe.data.max_length == 4096 and recipe.logging == ("wandb",)
    assert [(s.path, s.format) for s in recipe.data.train] == [
        ("acme/chat", "conversations"),
        (str(Path("mine.jsonl").absolute()), "alpaca"),
    ]
    lost = {entry.key for entry in found.entries if entry.status == "no place"}
    assert lost == {"evals_per_epoch", "saves_per_epoch", "special_tokens", "loss_watchdog_patience"}


@pytest.mark.parametrize(
    "keys,field,value",
    [
        ({"rl": "dpo", "rl_beta": 0.2}, "preference.beta", 0.2),
        ({"rl": "kto", "kto_desirable_weight": 2.0}, "preference.chosen_weight", 2.0),
        ({"rl": "ipo"}, "preference.loss", "ipo"),
        ({"adam_beta2": 0.95}, "training.betas", [0.9, 0.95]),
        ({"adam_beta1": "0.8", "adam_beta2": 0.95}, "training.betas", [0.8, 0.95]),
        ({"datasets": [{"path": "a/b", "type": "completion", "field": "body"}]}, "method", "pretrain"),
        ({"adapter": None}, "tuning.type", "full"),
    ],
)  # fmt: skip
def test_axolotls_methods(keys: dict[str, Any], field: str, value: object, tmp_path: Path) -> None:
    base = {"base_model": "a/b", "sequence_len": 64, "micro_batch_size": 1, "datasets": [{"path": "a/b"}]}
    found = imported(tmp_path, base | keys)
    node = load_text(found.text.encode(), Path("r"), sources_needed=False).resolved
    for name in field.split("."):
        node = node[name]
    assert node == value and not found.problems


SCRIPT = r"""#!/bin/bash
set -x
MODEL=acme/base-8b
nproc_per_node=8
# a comment
python3 -m verl.trainer.main_ppo \
    algorithm.adv_estimator=grpo \
    data.train_files=data/train.parquet data.prompt_key=question \
    data.train_batch_size=512 \
    data.max_prompt_length=256 data.max_response_length=1024 \
    actor_rollout_ref.model.path=${MODEL} \
    actor_rollout_ref.actor.optim.lr=1e-6 \
    actor_rollout_ref.actor.ppo_mini_batch_size=128 \
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 \
    actor_rollout_ref.actor.use_kl_loss=True \
    actor_rollout_ref.actor.kl_loss_coef=0.01 \
    actor_rollout_ref.actor.kl_loss_type=low_var_kl \
    actor_rollout_ref.actor.clip_ratio_high=0.28 \
    actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.n=5 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=2 \
    +actor_rollout_ref.rollout.enforce_eager=True \
    trainer.logger='["console","wandb"]' trainer.n_gpus_per_node=$nproc_per_node trainer.nnodes=1 \
    trainer.save_freq=-1 trainer.total_epochs=15 "$@"
"""


def test_a_command_line_of_verl_is_a_recipe(tmp_path: Path) -> None:
    found = imported(tmp_path, SCRIPT, "run.sh", gpus=1)
    assert found.tool == "verl" and not found.problems
    config = planned(found.text)
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    assert config["actor_rollout_ref"]["model"]["path"] == "acme/base-8b"
    assert (actor["optim"]["lr"], actor["ppo_mini_batch_size"], actor["ppo_micro_batch_size_per_gpu"]) == (1e-6, 128, 4)
    assert (actor["use_kl_loss"], actor["kl_loss_coef"], actor["kl_loss_type"]) == (True, 0.01, "low_var_kl")
    assert (rollout["n"], rollout["tensor_model_parallel_size"], rollout["enforce_eager"]) == (5, 2, True)
    assert config["data"]["train_batch_size"] == 512 and config["trainer"]["total_epochs"] == 15
    recipe = load_text(found.text.encode(), Path("r"), sources_needed=False).recipe
    assert recipe.data.train[0].columns == {"prompt": "question"} and recipe.grpo.clip_ratio_high == 0.28
    assert recipe.logging == ("wandb",) and recipe.checkpoint.every is None  # save_freq=-1: none but the last
    assert [e.key for e in found.entries if e.status == "no place"] == ["trainer.n_gpus_per_node", "trainer.nnodes"]


def test_a_file_of_verls_sft_is_a_recipe(tmp_path: Path) -> None:
    keys = {
        "data": {"train_files": ["a.parquet"], "max_length": 512, "train_batch_size": 64, "micro_batch_size_per_gpu": 2}
    }
    keys |= {"model": {"path": "a/b", "lora_rank": 32, "lora_alpha": 64}, "optim": {"lr": 1e-4, "num_cycles": 0.3}}
    keys |= {
        "engine": {"strategy": "fsdp2", "optimizer_offload": True},
        "trainer": {"total_epochs": 2, "project_name": "x"},
    }
    found = imported(tmp_path, keys)
    config = planned(found.text)
    assert found.tool == "verl" and not found.problems
    assert config["optim"] | {"lr": 1e-4, "num_cycles": 0.3} == config["optim"]
    assert config["engine"]["strategy"] == "fsdp2" and config["engine"]["optimizer_offload"] is True
    assert recipe_of(found).checkpoint.every is None  # as verl has it by default
    assert config["optim"]["weight_decay"] == tree("sft-fsdp")["optim.weight_decay"].default


def test_a_torchtune_file_is_a_recipe(tmp_path: Path) -> None:
    keys = {
        "output_dir": "/tmp/x", "model": {"_component_": "torchtune.models.llama3_1.qlora_llama3_1_8b",
        "lora_attn_modules": ["q_proj", "output_proj"], "apply_lora_to_mlp": True, "lora_rank": 4, "lora_alpha": 8},
        "tokenizer": {"_component_": "t", "max_seq_len": 1024},
        "checkpointer": {"checkpoint_dir": "/models/llama", "output_dir": "${output_dir}"},
        "dataset": {"_component_": "torchtune.datasets.chat_dataset", "source": "json", "data_files": "c.json",
        "conversation_style": "sharegpt", "packed": True}, "batch_size": 2, "gradient_accumulation_steps": 8,
        "epochs": 3, "optimizer": {"_component_": "torch.optim.AdamW", "lr": "3e-4", "weight_decay": 0.01},
        "lr_scheduler": {"_component_": "x.get_cosine_schedule_with_warmup", "num_warmup_steps": 100}, "dtype": "bf16",
    }  # fmt: skip
    found = imported(tmp_path, keys)
    recipe = load_text(found.text.encode(), Path("r"), sources_needed=False).recipe
    assert found.tool == "torchtune" and not found.problems
    assert (recipe.tuning.rank, recipe.tuning.alpha, recipe.tuning.quantization) == (4, 8, "4bit")
    assert recipe.tuning.target_modules == ("q_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert recipe.training.learning_rate == 3e-4 and recipe.training.global_batch_size == 2 * 8 * 4
    assert recipe.training.warmup_steps == 100 and recipe.data.packing and recipe.data.max_length == 1024
    assert recipe.data.train[0].format == "conversations"


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.sampled_from(sorted(TOOLS)),
    st.dictionaries(
        st.sampled_from(
            [
                *CHOICES,
                *AXOLOTL,
                "deepspeed",
                "stage",
                "model",
                "optimizer",
                "data",
                "trainer",
                "dataset",
                "test_datasets",
                "rl",
                "eval_steps",
                "optimizer",
                "lr_scheduler",
                "metric_logger",
                "tokenizer",
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
            max_leaves=4,
        ),
        max_size=6,
    ),
)
def test_what_makes_no_sense_is_said(tmp_path_factory: pytest.TempPathFactory, tool: str, keys: dict[str, Any]) -> None:
    file = tmp_path_factory.mktemp("odd") / "theirs.yaml"
    file.write_text(yaml.safe_dump(keys))
    try:
        found = import_file(file, 1, tool)
    except UserError:
        return
    named = {entry.key.partition(".")[0] for entry in found.entries}
    assert {key for key, value in keys.items() if value is not None} <= named | {
        "dataset_dir"
    } or tool != "llamafactory"


def test_the_verb_writes_the_recipe_and_says_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, target = tmp_path / "ax.yml", tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(AXOLOTL))
    assert main(["import", str(file), "-o", str(target), "--gpus", "8"]) == 0
    out, said = capsys.readouterr()
    assert out.strip() == str(target) and "loss_watchdog_patience" in said and "no place" in said
    text = target.read_text()
    assert "#   loss_watchdog_patience: 3: " in text and yaml.safe_load(text)["training"]["global_batch_size"] == 64
    assert main(["import", str(file), "-o", str(target)]) == 2 and "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text,said",
    [
        ("a: 1\n", "say whose it is with --from"),
        ("- 1\n", "holds no keys"),
        ("base_model: x\nmicro_batch_size: two\nsequence_len: 1\n", "micro_batch_size: 'two' is not allowed"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert main(["import", str(tmp_path / "x.yaml")]) == 2
    assert said in capsys.readouterr().err


def test_paths_lead_from_where_the_recipe_lies_to_where_the_data_are(tmp_path: Path) -> None:
    """Both tools' paths are relative to their own file; the recipe may lie elsewhere."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.jsonl").write_text('{"instruction": "q", "output": "a"}\n')
    (tmp_path / "data/dataset_info.json").write_text('{"rows": {"file_name": "rows.jsonl"}}')
    theirs = tmp_path / "theirs.yaml"
    given = {"model_name_or_path": "a/b", "dataset": "rows", "dataset_dir": "data", "default_system": "Be brief."}
    theirs.write_text(yaml.safe_dump(given))
    for target in (tmp_path / "beside.yaml", tmp_path / "other/dir/x.yaml"):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(import_file(theirs, 1, target=target).text)
        (source,) = load(target).recipe.data.train
        assert Path(source.path).resolve() == tmp_path / "data/rows.jsonl"
        assert source.system == "Be brief."


def test_a_secret_does_not_stand_in_the_head_of_the_recipe(tmp_path: Path) -> None:
    mine = {"model_name_or_path": "a/b", "stage": "sft", "finetuning_type": "lora", "template": "qwen"}
    secrets = {"hf_hub_token": "opensesame", "swanlab_api_key": "opensesame", "unknown": "hf_" + "opensesame" * 2}
    found = imported(tmp_path, {**mine, **secrets, "other_token": "<pad>"})
    assert "opensesame" not in found.text
    assert all(f"#   {key}: [redacted]: " in found.text for key in secrets) and "#   other_token: <pad>: " in found.text
