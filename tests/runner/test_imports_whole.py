"""`recipe import` leaves nothing out in silence: keys below keys, and the words of a script as the shell reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recipes import UserError, load_text
from runner.imports import shell
from runner.imports.read import Imported, import_file

TORCHTUNE: dict[str, dict[str, Any]] = {
    "model": {"_component_": "torchtune.models.llama3_1.lora_llama3_1_8b", "lora_rank": 8},
    "checkpointer": {"checkpoint_dir": "/models/llama"},
    "dataset": {"_component_": "torchtune.datasets.alpaca_dataset"},
    "optimizer": {"_component_": "torch.optim.AdamW", "lr": 1e-4},
    "lr_scheduler": {"_component_": "x.get_cosine_schedule_with_warmup", "num_warmup_steps": 10},
}
KEYS = st.dictionaries(st.sampled_from("abcdefgh").map(lambda one: f"key_{one}"), st.integers(1, 9), max_size=4)


def imported(directory: Path, values: object) -> Imported:
    file = directory / "theirs.yaml"
    file.write_text(yaml.safe_dump(values))
    return import_file(file, 1)


def nowhere(found: Imported) -> set[str]:
    return {entry.key for entry in found.entries if entry.status == "no place"}


@given(st.fixed_dictionaries(dict.fromkeys(TORCHTUNE, KEYS)))
def test_each_key_below_torchtunes_is_told(
    tmp_path_factory: pytest.TempPathFactory, more: dict[str, dict[str, int]]
) -> None:
    found = imported(tmp_path_factory.mktemp("one"), {key: TORCHTUNE[key] | more[key] for key in TORCHTUNE})
    assert {f"{key}.{name}" for key, names in more.items() for name in names} <= nowhere(found)


AXOLOTL = {"base_model": "a/b", "sequence_len": 512, "micro_batch_size": 1, "learning_rate": 1e-4}
OF_SOURCE = {
    "message_property_mappings": {"role": "who", "content": "what"}, "message_field_content": "what",
    "chat_template": "llama3", "roles": {"user": ["asker"]}, "roles_to_train": ["user"], "train_on_eos": "last",
    "shards": 4, "preprocess_shards": 2, "conversation": "chatml",
}  # fmt: skip


@given(st.sets(st.sampled_from(sorted(OF_SOURCE))))
def test_each_key_of_a_source_of_axolotl_is_told(tmp_path_factory: pytest.TempPathFactory, keys: set[str]) -> None:
    source = {"path": "rows.jsonl", "type": "chat_template", **{key: OF_SOURCE[key] for key in keys}}
    found = imported(tmp_path_factory.mktemp("one"), {**AXOLOTL, "datasets": [source]})
    assert {f"datasets[].{key}" for key in keys} == {key for key in nowhere(found) if key.startswith("datasets[]")}


def test_preferences_of_axolotl_are_rows_of_preferences(tmp_path: Path) -> None:
    source = {"path": "rows.jsonl", "type": "chat_template.default", "field_messages": "talk", "field_chosen": "good"}
    found = imported(tmp_path, {**AXOLOTL, "rl": "dpo", "datasets": [source], "deepspeed": "configs/zero3_bf16.json"})
    recipe = load_text(found.text.encode(), Path("r"), sources_needed=False).recipe
    assert recipe.data.train[0].columns == {"chosen": "good", "prompt": "talk"} and not found.problems
    assert recipe.data.train[0].format == "preference" and recipe.distributed.strategy == "deepspeed-zero3"


def test_what_torchtune_says_of_the_optimizer_is_taken(tmp_path: Path) -> None:
    optimizer = {**TORCHTUNE["optimizer"], "betas": [0.9, 0.95], "eps": 1e-6}
    found = imported(tmp_path, TORCHTUNE | {"optimizer": optimizer, "clip_grad_norm": None})
    recipe = load_text(found.text.encode(), Path("r"), sources_needed=False).recipe
    assert recipe.training.betas == (0.9, 0.95) and recipe.training.optimizer_options.eps == 1e-6
    assert "clip_grad_norm" in nowhere(found)  # torchtune clips nothing without it


NAMES = ("A_dir", "b2", "files")
PLAIN = st.text("abz09/._:", min_size=1, max_size=8).filter(lambda text: not text.startswith("~"))
USED = st.sampled_from([f"${name}/" for name in NAMES] + [f"${{{name}}}" for name in NAMES])
PIECES = st.lists(PLAIN | USED, min_size=1, max_size=3).map("".join)
VALUES = st.one_of(
    PIECES,
    PIECES.map(lambda text: f'"{text} and more"'),
    st.builds(lambda one, other: f"\"['{one}', '{other}']\"", PIECES, PIECES),
    st.builds(lambda name, text: f"${{{name}:-{text}}}", st.sampled_from((*NAMES, "not_set")), PIECES),
    st.builds(lambda name, text: f'"${{{name}:-"{text}"}}"', st.sampled_from((*NAMES, "not_set")), PIECES),
    st.builds(
        lambda a, b, sign: f"$(({a} {sign} {b}))", st.integers(1, 99), st.integers(1, 99), st.sampled_from("+*-")
    ),
)
SCRIPTS = st.tuples(st.fixed_dictionaries(dict.fromkeys(NAMES, VALUES)), st.lists(VALUES, min_size=1, max_size=4))


@pytest.mark.skipif(not shutil.which("bash"), reason="compares with bash")
@given(SCRIPTS)
def test_a_script_is_read_as_bash_reads_it(script: tuple[dict[str, str], list[str]]) -> None:
    """Values without blanks outside quotes, which bash would split into words."""
    known, values = script
    lines = [f"{n % 2 * 'export '}{name}={value}" for n, (name, value) in enumerate(known.items())]
    first = dict.fromkeys(NAMES, "first")  # a variable that is used before the script sets it
    given = [f'key{n}="{value}"' if '"' not in value else f"key{n}={value}" for n, value in enumerate(values)]
    text = "\n".join([*lines, " \\\n    ".join(["printf '%s\\0'", "the.trainer", *given])])
    told = subprocess.run(
        ["bash", "-c", text], capture_output=True, check=True, env=first | {"PATH": os.environ["PATH"]}
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in first.items():
            patch.setenv(name, value)
        assert shell.command(text, ["the.trainer"])[2:] == told.stdout.decode().split("\0")[:-1]


def test_what_has_no_value_here_is_told_and_never_a_name(tmp_path: Path) -> None:
    file = tmp_path / "run.sh"
    file.write_text(
        "python3 -m verl.trainer.sft_trainer model.path=$NOWHERE_SET data.train_files=$(ls *.parquet) "
        "data.max_length=$((x)) trainer.total_epochs=2\n"
    )
    found = import_file(file, 1)
    assert {"model.path", "data.max_length"} <= nowhere(found)
    assert "$" not in found.text.partition("\nname:")[2]


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (TORCHTUNE | {"checkpointer": {"_component_": "x"}}, "model"),
        (TORCHTUNE | {"dataset": {"_component_": "torchtune.datasets.chat_dataset"}}, "data.train[0].path"),
        ({**AXOLOTL, "datasets": [{"type": "alpaca"}]}, "data.train[0].path"),
    ],
)
def test_a_path_that_a_configuration_does_not_name_is_asked_for(
    values: dict[str, Any], missing: str, tmp_path: Path
) -> None:
    assert missing in {getattr(problem, "field", "") for problem in imported(tmp_path, values).problems}


def test_a_recipe_is_not_taken_for_anothers_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a recipe already"):
        imported(tmp_path, {"backend": "verl", "method": "sft", "model": {"path": "a/b"}})


def test_references_of_a_yaml_file_are_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_HOME", "/data")
    monkeypatch.delenv("NOT_SET", raising=False)
    found = imported(
        tmp_path,
        {
            "data": {"train_files": "${oc.env:DATA_HOME}/a.parquet", "train_batch_size": 64, "seed": "${data.nothing}"},
            "actor_rollout_ref": {
                "model": {"path": "${oc.env:NOT_SET,acme/base}"},
                "actor": {"ppo_mini_batch_size": "${data.train_batch_size}", "clip_ratio": "${actor_rollout_ref.c}"},
                "c": "${actor_rollout_ref.c}",  # leads to itself
            },
            "algorithm": {"adv_estimator": "grpo"},
        },
    )
    recipe = load_text(found.text.encode(), Path("r"), sources_needed=False).recipe
    assert recipe.data.train[0].paths == ("/data/a.parquet",) and recipe.model.path == "acme/base"
    assert recipe.grpo.mini_batch_size == recipe.training.global_batch_size == 64
    assert {"data.seed", "actor_rollout_ref.actor.clip_ratio", "actor_rollout_ref.c"} <= nowhere(found)


def test_a_wrong_value_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"theirs\.yaml: micro_batch_size: '2' is not allowed"):
        imported(tmp_path, AXOLOTL | {"micro_batch_size": "2"})
