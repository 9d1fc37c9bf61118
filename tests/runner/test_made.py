"""The recipes that are made: each is valid, is planned by every backend that has it, and fits its machine."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from adapters import backend
from adapters.contract import PreparedData, Topology
from adapters.refusals import unsupported
from benchmarks.catalogue import table
from recipes import UserError, catalogue, find, load, names
from recipes.made import TABLE, made, text
from recipes.tables import DATA, KINDS, MACHINES, MODELS
from runner.cli import main
from runner.fit.estimate import Fit, estimate
from runner.fit.gpus import gpu
from runner.training.planning import check, make_plan

ALL = tuple(made())
BOTH = ("llamafactory", "verl")  # another that is added may well refuse fields of theirs
SIZES = {"24gb": (1, 1), "80gb": (1, 1), "8x80gb": (8, 1), "2x8x80gb": (8, 2), "4x8x80gb": (8, 4)}


def on(machine: str) -> Topology:
    gpus, nodes = SIZES[machine]
    return Topology(gpus=gpus, processes=gpus, nodes=nodes, devices=tuple(map(str, range(gpus))))


def gigabytes(machine: str) -> str:
    return machine.rpartition("x")[2].upper()


def of(model: str) -> list[str]:
    return [name for name in ALL if re.fullmatch(rf"{re.escape(model)}_[a-z]+_[a-z]+_[0-9x]+gb", name)]


@pytest.mark.thorough
def test_the_table_is_what_the_estimate_says() -> None:
    """Where the estimate has changed: `make golden`, and read the difference."""
    models = list(MODELS)[:: 1 if os.environ.get("RECIPE_THOROUGH") else 4]
    names_of = {name for model in models for name in of(model)}
    lines = TABLE.read_text(encoding="utf-8").splitlines()[1:-1]
    kept = [line.rstrip(",") for line in lines if line.split('"')[1] in names_of]
    assert table(models) == "{\n" + ",\n".join(kept) + "\n}\n"


def test_there_are_recipes_for_every_model_method_and_machine() -> None:
    assert len(ALL) >= 60 and len(names()) == len(set(names())) == len(ALL) + len(catalogue())
    assert sum(len(of(model)) for model in MODELS) == len(ALL) and all(map(of, MODELS))
    seen = {name.split("_")[-3] for name in ALL}, {name.split("_")[-2] for name in ALL}, {n.split("_")[-1] for n in ALL}
    assert seen == ({"sft", "dpo", "orpo", "simpo", "kto", "reward", "grpo"}, {"lora", "qlora", "full"}, set(SIZES))
    assert {re.match("[a-z]+3?", model.removeprefix("r1_"))[0] for model in MODELS} == {  # type: ignore[index]
        "smollm", "qwen3", "llama3", "gemma3", "mistral", "phi", "qwen", "llama"
    }  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_each_is_valid_says_what_it_is_and_fits_its_machine(model: str, tmp_path: Path) -> None:
    for name in of(model):
        recipe, (method, tuning, machine) = load(name).recipe, name.split("_")[-3:]
        check(load(name), on(machine))
        assert (recipe.name, recipe.method, recipe.model.path) == (name, method, MODELS[model])
        assert (recipe.tuning.type, recipe.tuning.quantization) == {
            "lora": ("lora", None), "qlora": ("lora", "4bit"), "full": ("full", None)
        }[tuning]  # fmt: skip
        card = gpu(gigabytes(machine))
        fit = estimate(recipe, on(machine), tmp_path, card)
        timed = estimate(recipe, on(machine), tmp_path, gpu(MACHINES[machine].card))
        assert isinstance(fit, Fit) and isinstance(timed, Fit) and 1.1 * fit.needed(card) <= card.memory, name
        assert made()[name].needed == round(fit.needed(card) / 1e9, 1) <= float(gigabytes(machine)[:-2]), name
        said = made()[name].hours
        assert (said is None) == (method == "grpo") and (said is None or said == pytest.approx(timed.hours, rel=0.06))


@pytest.mark.parametrize("model", MODELS)
def test_every_backend_that_has_its_method_and_tuning_plans_it(model: str, tmp_path: Path) -> None:
    for name in of(model):
        machine, planned = on(name.split("_")[-1]), 0
        for other in BOTH:
            module, loaded = backend(other), load(name, [f"backend={other}"])
            recipe = loaded.recipe
            if recipe.method in module.METHODS and recipe.tuning.quantization in (None, *module.QUANTIZATIONS):
                assert not unsupported(loaded) and not module.problems(loaded, machine), (name, other)
                plan = make_plan(loaded, machine, tmp_path, data=PreparedData(train_rows=1000), python=Path("python"))
                assert plan.argv and plan.files, name
                planned += 1
            else:
                assert unsupported(loaded)
        assert planned == (2 if re.search("_sft_(lora|full)_", name) else 1), name


@pytest.mark.parametrize("model", MODELS)
def test_no_smaller_machine_would_have_done(model: str, tmp_path: Path) -> None:
    """Of each kind, the first machine is the smallest on which any micro batch and strategy of the table fits."""
    first = {name.rpartition("_")[0]: name for name in reversed(of(model))}
    order = list(SIZES)
    for kind, name in first.items():
        for machine in order[: order.index(name.split("_")[-1])]:
            rows = f"training.global_batch_size={MACHINES[machine].batch}"
            for strategy in ("auto", "fsdp2") if SIZES[machine][0] > 1 else ("auto",):
                loaded = load(name, [rows, "training.micro_batch_size=1", f"distributed.strategy={strategy}"])
                try:
                    check(loaded, on(machine))
                except UserError:
                    continue
                fit = estimate(loaded.recipe, on(machine), tmp_path)
                assert isinstance(fit, Fit)
                engine = loaded.recipe.grpo.rollouts.gpu_memory_utilization * gpu(gigabytes(machine)).memory
                small = 2 * fit.parameters / SIZES[machine][0] > engine / 2  # no room for the rollouts' own weights
                card = gpu(gigabytes(machine))
                assert small * (loaded.recipe.method == "grpo") or 1.1 * fit.needed(card) > card.memory, (kind, machine)


def test_what_is_made_is_found_like_what_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = "qwen3_1.7b_sft_lora_24gb"
    assert not find(name).exists() and load(name).source.decode() == text(name)
    assert load(name, ["training.epochs=3"]).recipe.training.epochs == 3
    assert main(["validate", name, "quickstart"]) == 0
    assert main(["run", name, "--dry-run", "--runs-dir", str(tmp_path / "runs")]) == 0
    capsys.readouterr()
    assert main(["plan", "qwen3_1.7b_sft_lora_24g"]) == 2 and f"did you mean '{name}'?" in capsys.readouterr().err
    with pytest.raises(
        UserError, match=re.escape(f"recipes/{name}.yaml:14:3: tuning.alpha: belongs to tuning.type: lora")
    ):
        load(name, ["tuning.type=full", "tuning.rank=16"])


def test_what_makes_a_made_recipe_fit_is_proposed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "qwen3_14b_sft_lora_80gb", "--gpu", "24GB"]) == 1
    assert "--set tuning.quantization=4bit" in capsys.readouterr().out


def test_every_data_set_and_kind_is_used() -> None:
    used = Counter(load(name).recipe.data.train[0].path for name in ALL)
    assert len(used) == len(DATA) and {name.rsplit("_", 1)[0].rsplit("_", 2)[-2] for name in ALL} == {
        kind.method for kind in KINDS.values()
    }
    assert json.loads(TABLE.read_text(encoding="utf-8")).keys() == set(ALL)
