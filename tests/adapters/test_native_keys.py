"""Native keys: each that a backend's own parser knows acts, is a field's, or is refused with what to use instead.

Which keys act is written down in native_acts.json: rewrite it with
`pytest tests/adapters/test_native_keys.py --golden`, and read the difference against the backend's source.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from adapters import BACKENDS, backend, llamafactory, verl
from adapters.contract import Topology
from adapters.llamafactory import options as llamafactory_options
from adapters.verl import options as verl_options
from recipes import LoadedRecipe, load_text, schema

GPUS = Topology(gpus=4, processes=4, devices=tuple("0123"))
ACTS = Path(__file__).with_name("native_acts.json")
FULL = "tuning={type: full}"
# What turns keys on that act beside it only: native ones, and fields of the recipe.
SWITCHES: dict[str, Any] = {
    **dict.fromkeys(("use_apollo", "use_galore", "use_badam", "use_eaft_loss", "fp8"), True),
    "enable_torch_profiler": True,
}
FIELDS_ON = ("training.gradient_checkpointing=true", "training.dataloader_workers=1", "training.compile=true")
FIELDS_ON += ("logging=[wandb]", "eval={loss_every: 5}", "data.validation={fraction: 0.1}")
# One recipe for each way in which a backend's keys are read.
RECIPES: dict[str, tuple[str, ...]] = {
    "llamafactory sft": ("backend=llamafactory",),
    "llamafactory sft full": ("backend=llamafactory", FULL, 'backend_options={"use_asft_loss": true}'),
    "llamafactory sft, all on": (
        *("backend=llamafactory", *FIELDS_ON, "tuning={type: lora, quantization: 4bit, lora_plus_ratio: 16}"),
        f"backend_options={json.dumps(SWITCHES)}",
    ),
    "llamafactory dpo": ("backend=llamafactory", "method=dpo"),
    "llamafactory dpo, all on": (
        *("backend=llamafactory", "method=dpo", *FIELDS_ON),
        f"backend_options={json.dumps({'ref_model': 'a/b'})}",
    ),
    "llamafactory kto": ("backend=llamafactory", "method=kto"),
    "llamafactory orpo": ("backend=llamafactory", "method=orpo"),
    "verl sft": ("backend=verl",),
    "verl sft full": ("backend=verl", FULL),
    "verl sft megatron": ("backend=verl", FULL, "distributed.strategy=megatron"),
    "verl grpo": ("backend=verl", "method=grpo", "grpo={rewards: [{type: exact}]}"),
    "verl grpo kl in reward": ("backend=verl", "method=grpo", "grpo={kl_in: reward, rewards: [{type: exact}]}"),
}
FIELDS = {re.sub(r"\[\]$", "", name) for name in schema.leaves()}
SECTIONS = {field.rsplit(".", n)[0].removesuffix("[]") for field in FIELDS for n in range(field.count(".") + 1)}


def loaded(name: str) -> LoadedRecipe:
    base = b"backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"
    return load_text(base, Path("r.yaml"), RECIPES[name])


def known(recipe: LoadedRecipe) -> list[str]:
    """The keys of the file that the pinned backend's own parser wrote down."""
    if recipe.recipe.backend == "llamafactory":
        return list(llamafactory_options.arguments())
    return list(verl_options.tree(verl_options.tree_of(recipe.recipe)))


@cache
def refused(name: str) -> dict[str, str]:
    """The refusal of each key that this recipe may not give, each key tried on its own with its own default."""
    one, found = loaded(name), {}
    for key in known(one):
        given = {key: None, **one.recipe.backend_options}
        with_key = load_text(one.source, one.path, [*RECIPES[name], f"backend_options={json.dumps(given)}"])
        place = f"backend_options.{key}"
        texts = [p.text for p in backend(one.recipe.backend).problems(with_key, GPUS) if p.field == place]
        texts = [text for text in texts if not re.match("None is not allowed|.* holds ", text)]  # of null as a value
        if texts:
            found[key] = texts[0]
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_each_native_key_acts_or_is_refused(name: str, request: pytest.FixtureRequest) -> None:
    written = json.loads(ACTS.read_text(encoding="utf-8")) if ACTS.is_file() else {}
    acting = sorted(set(known(loaded(name))) - refused(name).keys())
    if request.config.getoption("--golden"):
        written[name] = acting
        ACTS.write_text(json.dumps(written, indent=0) + "\n", encoding="utf-8")
    assert acting == written[name]


@pytest.mark.parametrize("name", RECIPES)
def test_a_refusal_names_a_field_that_there_is(name: str) -> None:
    """No reader is sent to a field that recipes do not have."""
    for key, text in refused(name).items():
        for field in re.findall(r"use the recipe's ([a-z_.\[\]]+)", text):
            assert field.rstrip(".") in FIELDS | SECTIONS, (key, text)


@pytest.mark.parametrize("name", RECIPES)
def test_a_key_that_a_field_sets_is_never_a_native_one(name: str) -> None:
    one = loaded(name)
    for entry in backend(one.recipe.backend).ledger(one.recipe, GPUS):
        if entry.status == "mapped" and not entry.file:
            assert not {key for key in entry.keys if key in known(one)} - refused(name).keys(), entry.field


def test_every_backend_is_walked() -> None:
    """Every backend that says which keys cannot act; one that has no native keys has no such module."""
    ruled = {name for name in BACKENDS if find_spec(f"adapters.{name}.inert")}
    assert {name.split()[0] for name in RECIPES} == ruled >= {llamafactory.NAME, verl.NAME}


@pytest.mark.parametrize(
    "name,given,expected",
    [
        ("llamafactory sft", "template: qwen", "use the recipe's model.chat_template"),
        ("llamafactory sft", "packing: true", "use the recipe's data.packing"),
        ("llamafactory sft", "max_samples: 3", "use the recipe's data.train[].max_samples"),
        ("llamafactory sft", "pref_beta: 0.2", "use the recipe's preference.beta"),
        ("llamafactory sft", "group_by_length: true", "use the recipe's training.group_by_length"),
        ("llamafactory sft", "ref_model: a/b", "belongs to method: dpo or kto, and the method is sft"),
        ("llamafactory sft full", "adapter_folder: a", "belongs to tuning.type: lora"),
        ("llamafactory sft", "pissa_init: true", "use the recipe's tuning.init"),
        ("llamafactory sft", "create_new_adapter: true", "the adapter would be one of a changed base"),
        ("llamafactory sft", "adapter_name_or_path: a", "use the recipe's model.adapter_path"),
        ("llamafactory sft", "rope_scaling: yarn", "the adapter does not keep it"),
        ("llamafactory dpo", "train_from_scratch: true", "the adapter does not keep it"),
        ("llamafactory sft", "reward_model: a/b", "method: grpo on backend: verl"),
        ("verl sft", "data: {max_length: 3}", "use the recipe's data.max_length"),
        ("verl sft", "model.tokenizer_path: a/b", "use the recipe's model.tokenizer"),
        ("verl sft", "model.lora.rank: 3", "use the recipe's tuning"),
        ("verl sft", "model.override_config: {}", "set single keys below model.override_config"),
        ("verl sft", "engine.mixed_precision: {param_dtype: bf16, other: 1}", "use the recipe's training.precision"),
        ("verl grpo", "trainer.balance_batch: true", "GRPO's batches are always balanced"),
        ("verl grpo", "transfer_queue.enable: true", "sets it to true itself"),
        ("verl grpo", "actor_rollout_ref.rollout.over_sample_rate: 0.1", "reads it nowhere"),
        ("verl grpo", "algorithm.kl_penalty: kl", "acts with the recipe's grpo.kl_in: reward"),
        (
            "verl grpo kl in reward",
            "actor_rollout_ref.actor.kl_loss_type: kl",
            "acts with the recipe's grpo.kl_in: loss",
        ),
        ("verl grpo", "critic.optim.lr: 1", "GRPO has no critic"),
        ("verl grpo", "reward.reward_model.enable: true", "use the recipe's grpo.rewards"),
        ("verl grpo", "actor_rollout_ref.ref.optim: null", "acts under actor_rollout_ref.actor"),
    ],
)
def test_what_cannot_act_is_refused(name: str, given: str, expected: str) -> None:
    one = loaded(name)
    with_key = load_text(one.source, one.path, [*RECIPES[name], f"backend_options={{{given}}}"])
    texts = [p.text for p in backend(one.recipe.backend).problems(with_key, GPUS)]
    assert texts and expected in texts[0], texts
