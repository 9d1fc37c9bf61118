"""Stages of a recipe: each is the rest of the file with its own fields over it, and mistakes keep their place."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recipes import UserError, load, load_text, stages_of, trainings
from recipes.stages import stage_of
from recipes.yaml_text import dump, parse

CHAIN = """\
backend: llamafactory
model: {path: a/b}
tuning: {type: lora, rank: 8}
data:
  train: [{path: a/b}, {path: c/d}]
  max_length: 128
training: {epochs: 2}
stages:
  - name: sft
    method: sft
  - name: dpo
    method: dpo
    data:
      train: [{path: e/f, format: preference}]
    training: {learning_rate: 1e-6}
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(CHAIN)
    return file


def test_a_stage_is_the_rest_with_its_own_fields_over_it(chain: Path) -> None:
    assert stages_of(chain) == [f"{chain}:sft", f"{chain}:dpo"] and stages_of(f"{chain}:dpo") == [f"{chain}:dpo"]
    sft, dpo = (load(name).recipe for name in stages_of(chain))
    assert (sft.name, dpo.name, sft.method, dpo.method) == ("mine-sft", "mine-dpo", "sft", "dpo")
    assert [source.path for source in sft.data.train] == ["a/b", "c/d"]
    assert [source.path for source in dpo.data.train] == ["e/f"], "a list is replaced, not made longer"
    assert sft.data.max_length == dpo.data.max_length == 128 and dpo.training.epochs == 2
    assert dpo.training.learning_rate == 1e-6 != sft.training.learning_rate


def test_it_is_a_recipe_of_its_own(chain: Path) -> None:
    loaded = load(f"{chain}:dpo", ["training.epochs=3"])
    assert load_text(loaded.source, loaded.path, loaded.overrides).recipe == loaded.recipe
    assert loaded.source.startswith(f"# stage dpo of {chain}\n".encode())


def test_values_are_set_in_all_stages_or_in_one(chain: Path) -> None:
    given = ["training.epochs=5", "stages[1].tuning.rank=4", "stages[1].data.train[0].path=g/h"]
    sft, dpo = (load(name, given).recipe for name in stages_of(chain))
    assert (sft.training.epochs, dpo.training.epochs, sft.tuning.rank, dpo.tuning.rank) == (5, 5, 8, 4)
    loaded = load(f"{chain}:dpo", given)
    assert loaded.recipe.data.train[0].path == "g/h" and loaded.overrides == ("training.epochs=5",)
    assert load_text(loaded.source, loaded.path, loaded.overrides).recipe == loaded.recipe


def test_the_path_of_one_stage_is_relative_to_where_the_command_was_given(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    monkeypatch.chdir(tmp_path / "here")
    found = load(f"{chain}:dpo", ["stages[1].data.train[0].path=rows.jsonl"]).recipe.data.train[0].path
    assert found == str(tmp_path / "here/rows.jsonl")


@pytest.mark.parametrize(
    "old,new,message",
    [
        ("learning_rate: 1e-6", "learning_rat: 1e-6", "mine.yaml:15:16: training.learning_rat: unknown field"),
        ("epochs: 2", "epochs: no", "mine.yaml:7:12: training.epochs: "),
        ("    method: dpo", "    method: dop", "mine.yaml:12:5: method: .*did you mean 'dpo'"),
        ("{path: e/f, format: preference}", "{format: preference}", "mine.yaml:14:.*: data.train.0..path: missing"),
        ("name: dpo", "name: sft", "mine.yaml:11:5: stages.1..name: 'sft' is the name of an earlier stage"),
        ("name: dpo", "name: a/b", "mine.yaml:11:5: stages.1..name: 'a/b' is not allowed"),
        ("name: dpo", "stages: []\n    name: dpo", "mine.yaml:11:5: stages.1..stages: a stage has no stages"),
    ],
)
def test_a_mistake_has_its_place(chain: Path, old: str, new: str, message: str) -> None:
    chain.write_text(CHAIN.replace(old, new))
    with pytest.raises(UserError, match=message):
        load(f"{chain}:dpo")


FINAL = """\
  - name: final
    method: eval
    eval:
      suites: [perplexity, generation]
"""


def test_a_stage_that_only_scores_is_the_training_before_it_with_its_own_eval(chain: Path) -> None:
    text = CHAIN.replace("stages:", "eval: {every: 4, mode: pause, patience: 2, max_samples: 9, base: false}\nstages:")
    text = text.replace("method: dpo\n", "method: dpo\n    eval: {suites: [preference], max_new_tokens: 5}\n")
    held_out = text.replace("max_length: 128", "max_length: 128\n  validation: {fraction: 0.1}")
    chain.write_text(held_out + FINAL + FINAL.replace("final", "again"))
    names = [f"{chain}:{name}" for name in ("sft", "dpo", "final", "again")]
    assert stages_of(chain) == names[:2] and stages_of(chain, scoring=True) == names
    assert [stages_of(one) for one in names] == [names[:1], names[1:2], [], []]
    assert stages_of(names[2], scoring=True) == names[2:3]
    dpo, final, again = (load(name, scoring=True) for name in names[1:])
    assert (dpo.scoring, final.scoring, again.scoring) == (False, True, True)
    judged = final.recipe.eval
    assert judged.suites == ("perplexity", "generation") and judged.max_samples == 9 and not judged.base
    assert (judged.every, judged.mode, judged.patience) == (None, "after", None), "nothing trains meanwhile"
    assert judged.max_new_tokens == load("quickstart").recipe.eval.max_new_tokens, "no stage has another's own fields"
    for one in (final, again):  # all else is the training's
        same = replace(one.recipe, name=dpo.recipe.name, eval=dpo.recipe.eval, checkpoint=dpo.recipe.checkpoint)
        assert same == dpo.recipe
    more = load(names[2], ["stages[2].eval.max_samples=3", "training.epochs=7"], scoring=True).recipe
    assert (more.eval.max_samples, more.training.epochs) == (3, 7)
    for name in names[2:]:
        with pytest.raises(UserError, match="trains nothing; it is for `recipe run`, `plan`, `validate` and `show`"):
            load(name)


@pytest.mark.parametrize(
    "old,new,message",
    [
        ("[perplexity", "[perplexty", r"mine.yaml:19:.*eval.suites.0.: .*did you mean 'perplexity'"),
        ("    eval:\n", "    training: {epochs: 1}\n    eval:\n", "18:5: stages.2..training: a stage of method: eval"),
        ("suites: [perplexity, generation]", "every: 4", "19:7: stages.2..eval.every: acts while a training goes on"),
        (
            "    eval:\n      suites: [perplexity, generation]\n",
            "",
            "16:5: stages.2..eval: missing; say what",
        ),
        ("eval:\n      suites: [perplexity, generation]", "eval: []", r"18:5: stages.2..eval: \[\] is not allowed"),
        ("    eval:\n", "    evals: {}\n    eval:\n", "stages.2..evals: a stage .*did you mean 'eval'"),
    ],
)
def test_a_mistake_in_a_stage_that_only_scores_has_its_place(chain: Path, old: str, new: str, message: str) -> None:
    assert old in FINAL
    chain.write_text(CHAIN + FINAL.replace(old, new))
    with pytest.raises(UserError, match=message):
        load(f"{chain}:final", scoring=True)


def test_something_trains_before_something_is_scored(chain: Path) -> None:
    chain.write_text(CHAIN.replace("stages:\n", f"stages:\n{FINAL}"))
    with pytest.raises(UserError, match=r"mine.yaml:10:5: stages.0..method: the first stage has nothing to score"):
        stages_of(chain)
    chain.write_text(CHAIN.split("stages:")[0] + "method: eval\n")
    with pytest.raises(UserError, match='method: "eval" is not allowed'):
        load(chain)


def test_an_override_of_one_stage_is_named_as_it_was_given(chain: Path) -> None:
    with pytest.raises(UserError, match=r"--set stages\[1\].training.epochs=-1: training.epochs: -1 is not allowed"):
        load(f"{chain}:dpo", ["stages[1].training.epochs=-1"])
    load(f"{chain}:sft", ["stages[1].training.epochs=-1"])


@pytest.mark.parametrize(
    "name,message",
    [
        ("{}", "mine.yaml:8:1: stages: sft, dpo: .*such as .*mine.yaml:sft"),
        ("{}:dop", "no stage 'dop'; did you mean 'dpo'.*; its stages: sft, dpo"),
        ("quickstart:sft", "quickstart.yaml has no stages; leave :sft out"),
        ("quikstart:sft", "did you mean 'quickstart'"),
    ],
)
def test_a_name_that_is_of_no_training(chain: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(name.format(chain))


@pytest.mark.parametrize("given", ["stages=[{name: a}, {name: b}]", "stages=[]", "stages.x=1"])
def test_stages_are_of_a_file(given: str) -> None:
    with pytest.raises(UserError, match="stages: stages are written in the file"):
        load("quickstart", [given])


def test_a_name_that_is_wrong_is_not_hidden_by_that_of_the_stage(chain: Path) -> None:
    chain.write_text(f"name: 5\n{CHAIN}")
    with pytest.raises(UserError, match=r"mine\.yaml:1:1: name: 5 is not allowed"):
        load(f"{chain}:sft")


def test_a_file_whose_name_has_a_colon_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a:b"
    file.write_text("backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n")
    assert load(file).recipe.backend == "verl"


def test_every_stage_of_the_catalogue_is_a_recipe() -> None:
    assert {"finance_sft_dpo:sft", "finance_sft_dpo:dpo", "quickstart"} <= set(trainings())


NODES = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.dictionaries(st.sampled_from("abc"), NODES, max_size=3)


def over(common: Any, own: Any) -> Any:
    """Slow and plain: one leaf of a stage after the other."""
    if not isinstance(common, dict) or not isinstance(own, dict):
        return own
    found = copy.deepcopy(common)
    for key, value in own.items():
        found[key] = over(found[key], value) if key in found else value
    return found


@given(SECTIONS, SECTIONS, SECTIONS)
def test_merging_and_places(common: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> None:
    """Each value of a stage's document stands in the file at the place that the document gives for it."""
    text = dump({**common, "stages": [{"name": "one", **first}, {"name": "two", **second}]})
    for name, own in (("one", first), ("two", second)):
        document = parse(text.encode(), "x.yaml")
        found, source = stage_of(document, name, "x")
        wanted = {**over(common, own), "name": f"x-{name}"}
        assert found.value == wanted == yaml.safe_load(source)
        lines = text.splitlines()
        for path, (line, column) in found.places.items():
            value: Any = found.value
            for part in path:
                value = value[part]
            if path and isinstance(value, int) and isinstance(path[-1], int):
                assert lines[line - 1][column - 1 :].startswith(str(value))
            elif path and isinstance(path[-1], str):
                assert lines[line - 1][column - 1 :].startswith(f"{path[-1]}:")
        assert document.value["stages"][0] == {"name": "one", **first}, "the file's own values are left as they are"
