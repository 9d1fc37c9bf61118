"""What a resume finds changed: every field has its effect, and each thing that differs is named, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.contract import Topology
from recipes import load, schema
from recipes.typed import from_json, to_json
from runner.runs.rundir import Conditions, Run
from runner.training.conditions import COMPUTING, conditions, differences, effect, values
from tests.runner.test_back import trained

VERSIONS = {"torch": "2.11.0", "transformers": "5.0.0", "rich": "14.0"}
HERE = Topology()


def started(tmp_path: Path, *overrides: str) -> Run:
    run = trained(tmp_path)
    (run.path / "data/train.jsonl").write_text('{"a": 1}\n')
    (run.path / "data/tokenized/train").mkdir(parents=True)
    (run.path / "data/tokenized/train/data-00000-of-00001.arrow").write_text("rows")
    (run.path / "data/accounting.json").write_text("{}")
    run.update(conditions=conditions(run, load("quickstart", overrides)), versions=VERSIONS, topology=HERE)
    return run


def found(run: Run, *overrides: str, topology: Topology = HERE, **versions: str) -> list[tuple[str, str]]:
    loaded = load("quickstart", overrides)
    return [(one.effect, one.text) for one in differences(run, loaded, topology, VERSIONS | versions)]


def test_the_same_again_has_no_difference(tmp_path: Path) -> None:
    """After the way to the file and back, too: 1.0 and 1 are one, and a list is no tuple."""
    run = started(tmp_path)
    assert found(run) == []
    kept = run.read().conditions
    assert kept is not None and from_json(Conditions, to_json(kept)) == kept


@pytest.mark.parametrize(
    "override,effect_,text",
    [
        ("training.learning_rate=7e-3", "refused", "training.learning_rate: "),
        ("training.seed=77", "refused", "training.seed: "),
        ("data.max_length=99", "refused", "data.max_length: "),
        ("tuning.rank=4", "refused", "tuning.rank: "),
        ("training.epochs=7", "result", "training.epochs: "),
        ("training.scheduler=linear", "result", "training.scheduler: 'cosine' before, 'linear' now"),
        ("training.precision=bf16", "result", "training.precision: 'auto' before, 'bf16' now"),
        ("eval.max_samples=7", "none", "eval.max_samples: "),
        ("checkpoint.keep=9", "none", "checkpoint.keep: "),
        ("logging=[tensorboard]", "none", "logging: [] before, ['tensorboard'] now"),
        ("name=other", "none", "name: 'quickstart' before, 'other' now"),
    ],
)
def test_a_field_that_changed_is_named_with_its_effect(tmp_path: Path, override: str, effect_: str, text: str) -> None:
    ((kind, said), *more) = found(started(tmp_path), override)
    assert (kind, more) == (effect_, []) or (kind == effect_ and override.startswith("tuning.rank"))
    assert said.startswith(text) or any(other.startswith(text) for _, other in more)


@settings(deadline=None)
@given(st.sets(st.sampled_from(sorted(values(load("quickstart")))), max_size=6))
def test_all_that_changed_is_named_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, changed: set[str]
) -> None:
    run = started(tmp_path_factory.mktemp("run"))
    before = run.read().conditions
    assert before is not None
    run.update(conditions=replace(before, recipe={k: "?" if k in changed else v for k, v in before.recipe.items()}))
    assert {text.split(":")[0].split(" is ")[0] for _, text in found(run)} == changed


def test_every_leaf_of_the_schema_has_an_effect_that_was_thought_of() -> None:
    """A new section must be put somewhere: what no list names asks."""
    sections = {"backend_options", "distributed", "grpo", "preference", "training"}
    asked = {leaf for leaf in schema.leaves() if effect(leaf) == "result"}
    assert {leaf.split(".")[0].removesuffix("[]") for leaf in asked} <= sections | {"eval"}
    for leaf in ("model.path", "tuning.rank", "data.train[].path", "method", "backend"):
        assert effect(leaf) == "refused", leaf
    assert effect("eval.best_model") == effect("eval.patience") == "result"  # another step is `model/`
    assert effect("backend_options") == "result"  # it begins as `backend` does


def test_rows_that_changed_are_named_by_file(tmp_path: Path) -> None:
    run = started(tmp_path)
    (run.path / "data/tokenized/train/data-00000-of-00001.arrow").write_text("Rows")
    ((kind, text),) = found(run)
    assert kind == "result" and text.startswith("data/tokenized/train/data-00000-of-00001.arrow: sha256 ")
    (run.path / "data/validation.jsonl").write_text("{}\n")
    assert "data/validation.jsonl: not there before, sha256 " in found(run)[1][1]


def test_machines_and_packages_that_changed(tmp_path: Path) -> None:
    run = started(tmp_path)
    assert found(run, topology=Topology(processes=2)) == [("result", "processes: 1 before, 2 now")]
    assert found(run, topology=Topology(gpus=1)) == [("result", "device: cpu before, cuda now")]
    assert found(run, topology=replace(HERE, master_port=1, node_rank=0)) == []
    (refusal,) = found(run, "backend=verl", topology=Topology(processes=2))[1:] or [("", "")]
    assert refusal[0] == "refused" and "load on as many as wrote them" in refusal[1]
    assert found(run, torch="2.12.0") == [("result", "torch: 2.11.0 before, 2.12.0 now")]
    assert found(run, rich="15", idna="3") == [("none", "idna: none before, 3 now, rich: 14.0 before, 15 now")]
    assert set(VERSIONS) & set(COMPUTING) == {"torch", "transformers"}


def test_a_run_that_never_started_or_is_of_old_is_compared_by_what_it_has(tmp_path: Path) -> None:
    run = started(tmp_path)
    run.update(conditions=None)
    assert found(run, "training.seed=77", torch="2") == [("result", "torch: 2.11.0 before, 2 now")]
    run.update(attempts=())
    assert found(run, "training.seed=77", torch="2") == []


def test_a_field_that_did_not_exist_at_the_last_start_is_as_its_default(tmp_path: Path) -> None:
    """A run goes on under a newer version: its fields are no changes, unless they are given."""
    run = started(tmp_path)
    before = run.read().conditions
    assert before is not None
    older = {name: value for name, value in before.recipe.items() if not name.startswith(("launch.", "data.seed"))}
    run.update(conditions=replace(before, recipe=older))
    assert found(run) == []
    assert found(run, "launch.gpus=8") == [("none", "launch.gpus: None before, 8 now")]
    assert found(run, "data.seed=7") == [("refused", "data.seed: None before, 7 now")]
