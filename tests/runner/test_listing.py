"""`recipe list`, `show` and `new`: what fits a GPU, a recipe's text, and a copy that means the same elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from recipes import UserError, catalogue, find, load, load_text, made, names, stages_of, trainings
from recipes.edit import edited
from recipes.yaml_text import parse
from runner.cli import main
from runner.training.copying import copy_recipe

PLAIN = [name for name in trainings() if name in catalogue()]  # without stages


def out(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(arguments) == code
    return capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(out(capsys, "list", "--json", *arguments))}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gpu", "24GB", "--method", "dpo"],
        ["--gpu", "24GB", "--method", "grpo"],
        ["--gpu", "h100", "--gpus", "8", "--model", "LLAMA"],
        ["--gpu", "rtx4090", "--gpus", "4", "--model", "qwen3_8b"],
    ],
)
def test_what_is_listed_for_a_gpu_is_what_recipe_fit_says_fits(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = listed(capsys, *arguments)
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    gpus = ["--gpu", options["--gpu"], "--gpus", options.get("--gpus", "1")]
    for name in names()[::3]:
        recipe = load(name).recipe
        if (
            options.get("--method", recipe.method) != recipe.method
            or options.get("--model", "").lower() not in f"{name} {recipe.model.path}".lower()
        ):
            assert name not in found
        else:
            code = main(["fit", name, *gpus, "--json"])
            said = capsys.readouterr().out
            assert (code == 0) == (name in found), name
            if code == 0:
                fit = json.loads(said)["fit"]
                assert {key: found[name][key] for key in ("peak", "needed", "hours")} == {
                    key: fit[key] for key in ("peak", "needed", "hours")
                }
    assert len(found) > 3


def test_those_that_are_left_out_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--gpu", "h100", "--gpus", "3", "--json"]) == 0
    text, said = capsys.readouterr()
    counts = [int(number) for number in re.findall(r"(?<!x )\b(\d+) (?:of|need|are|have)", said)]
    assert counts[0] == len(json.loads(text)) and sum(counts) == len(names()) and f"of {len(names())} recipes" in said


def test_all_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Those with a file first; what is said of those that are made, without loading them, is what they are."""
    rows = listed(capsys)
    assert list(rows) == names() and list(rows)[: len(catalogue())] == list(catalogue())
    for name, row in rows.items():
        one, *rest = [load(stage).recipe for stage in stages_of(name)]
        if rest:
            assert row["method"] == ", ".join(stage.method for stage in (one, *rest)) and row["file"] == str(find(name))
            continue
        tuning = " ".join(filter(None, [one.tuning.type, one.tuning.quantization]))
        assert (one.backend, one.method, tuning, one.model.path, one.description) == (
            row["backend"], row["method"], row["tuning"], row["model"], row["description"]
        )  # fmt: skip
        assert row["file"] == (str(find(name)) if name in catalogue() else None)
    assert listed(capsys, "--model", "quick").keys() == {"quickstart"}


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["list", "--gpu", "h10"], "did you mean 'h100'?"),
        (["list", "--gpus", "8"], "--gpus 8 goes with --gpu"),
        (["show", "quickstar"], "did you mean 'quickstart'?"),
        (["new", "quickstar"], "did you mean 'quickstart'?"),
        (["new", "quickstart", "-o", "there.yaml"], "there.yaml: is there already"),
        (["new", "quickstart", "-o", "mine.txt"], "mine.txt: a recipe's file ends in .yaml or .yml"),
        (["new", "quickstart", "-o", "no/mine.yaml"], "no/mine.yaml: No such file or directory"),
        (["new", "quickstart", "--set", "training.epoch=1"], "did you mean 'epochs'?"),
    ],
)
def test_mistakes_are_said_and_write_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yaml").write_text("mine")
    assert main(arguments) == 2 and message in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["there.yaml"]
    assert (tmp_path / "there.yaml").read_text() == "mine"


def test_nothing_that_is_like_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--model", "gpt-9"]) == 0
    assert capsys.readouterr() == ("", "no recipe of the catalogue is like that; `recipe list` shows all\n")


@pytest.mark.parametrize("name", [*PLAIN, *list(made.made())[::40]])
def test_what_is_shown_is_the_recipe(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "show", name)
    assert load_text(shown.encode(), find(name)).recipe == load(name).recipe


@pytest.mark.parametrize("name", [*PLAIN, *list(made.made())[::40]])
def test_a_copy_means_the_same_elsewhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert out(capsys, "new", name) == f"{name}.yaml\n"
    copy = tmp_path / f"{name}.yaml"
    assert load(copy).recipe == load(name).recipe
    assert remarks(copy.read_text(encoding="utf-8"))[1:] == remarks(out(capsys, "show", name))[1:]
    for schema in re.findall(r"\$schema=(.*)", copy.read_text(encoding="utf-8")):
        assert Path(schema).is_file()


def test_a_stage_can_be_copied_and_a_whole_with_stages_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert out(capsys, "show", "finance_sft_dpo") == find("finance_sft_dpo").read_text(encoding="utf-8")
    assert out(capsys, "new", "finance_sft_dpo:dpo") == "finance_sft_dpo-dpo.yaml\n"
    assert load(tmp_path / "finance_sft_dpo-dpo.yaml").recipe == load("finance_sft_dpo:dpo").recipe
    assert main(["new", "finance_sft_dpo"]) == 2
    assert "stages: sft, dpo: " in capsys.readouterr().err


def remarks(text: str) -> list[str]:
    return re.findall(r"(?:^|\s)#.*", text, re.MULTILINE)


SETS = (
    "training.epochs=2", "training.micro_batch_size=1", "training={epochs: 5, global_batch_size: 4}", "tuning.rank=8",
    "tuning.dropout=0.25", "data.train[0].max_samples=7", "data.train=[{path: mine.jsonl}, {path: other.jsonl}]",
    "data.train[0].path=mine.jsonl", "data.max_length=128", "logging=tensorboard", "checkpoint.every=2",
    "distributed.offload_optimizer=false", "eval.suites=[]", "name=nine.lives", "description='yes: #no'",
    "description=über 1e3", "model.chat_template_kwargs.x=on", "data.validation={}", "eval.max_new_tokens=5",
    "backend_options={}", "data.train[0].columns={prompt: '{a}\\n{b}'}",
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=st.sampled_from([*PLAIN, *list(made.made())[::60]]), sets=st.lists(st.sampled_from(SETS), max_size=4))
def test_overrides_are_in_the_copy(name: str, sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is given together, the copy alone means what the recipe means with its overrides."""
    monkeypatch.chdir(tmp_path)
    for file in ("mine.jsonl", "other.jsonl"):
        (tmp_path / file).write_text('{"prompt": "a", "response": "b", "answer": "c"}\n', encoding="utf-8")
    shutil.rmtree(tmp_path / "sub", ignore_errors=True)
    (tmp_path / "sub").mkdir()
    try:
        loaded = load(name, sets)
    except UserError:
        assume(False)
    copy = copy_recipe(loaded, tmp_path / "sub" / "copy.yaml")
    own = loaded.recipe.name if any(one.startswith("name=") for one in sets) else "copy"
    assert load(copy).recipe == replace(loaded.recipe, name=own)


def test_the_copy_of_a_users_recipe_finds_its_files(tmp_path: Path) -> None:
    for file in ("rows.jsonl", "held.jsonl", "t.jinja", "reward.py"):
        (tmp_path / file).write_text('{"prompt": "a", "answer": "b"}\n', encoding="utf-8")
    (tmp_path / "reward.py").write_text("def reward(prompt, reply, answer):\n    return 1.0\n", encoding="utf-8")
    (tmp_path / "m.yaml").write_text(
        "backend: verl\nmethod: grpo\nmodel: {path: a/b, chat_template: ./t.jinja}  # mine\n"
        "data:\n  train: &rows\n  - path: [rows.jsonl]\n  validation:\n    sources:\n    - {path: held.jsonl}\n"
        "grpo:\n  rewards: [{type: function, path: 'reward.py:reward'}]\n",
        encoding="utf-8",
    )
    (tmp_path / "sub").mkdir()
    copy = copy_recipe(load(tmp_path / "m.yaml"), tmp_path / "sub" / "x.yaml")
    assert load(copy).recipe == replace(load(tmp_path / "m.yaml").recipe, name="x")
    assert "# mine" in copy.read_text() and copy.read_text().count(str(tmp_path)) == 4
    beside = copy_recipe(load(tmp_path / "m.yaml"), tmp_path / "y.yaml")
    assert str(tmp_path) not in beside.read_text()


def test_a_recipe_whose_text_cannot_be_changed_in_place_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n', encoding="utf-8")
    (tmp_path / "m.yaml").write_text(
        "# first\nbackend: llamafactory\nmethod: sft\nmodel: {path: a/b}\n"
        "data:\n  train:  # not of these\n  - &one {path: rows.jsonl}\n  validation: {sources: [*one]}\n",
        encoding="utf-8",
    )
    copy = copy_recipe(load(tmp_path / "m.yaml", ["data.train=[{path: c/d}]"]), tmp_path / "sub" / "m.yaml")
    assert load(copy).recipe == load(tmp_path / "m.yaml", ["data.train=[{path: c/d}]"]).recipe
    assert copy.read_text().startswith("# first\n")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.sampled_from(["yes", "a: b", "# no", "é", "1e5", "", " x "]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcde"), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a value stands already, and where one could be put into a mapping."""
    if path:
        yield path
    if isinstance(value, dict):
        yield (*path, "new")
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from places(item, (*path, n))


@settings(deadline=None)
@given(data=st.data(), whole=st.dictionaries(st.sampled_from("abcde"), VALUES, min_size=1), style=st.booleans())
def test_an_edited_text_has_the_value_and_else_what_it_had(data: st.DataObject, whole: Any, style: bool) -> None:
    text = yaml.safe_dump(whole, default_flow_style=None if style else False, allow_unicode=True)
    whole = parse(text.encode(), "").value  # YAML 1.2 and 1.1 differ over a few words
    path = data.draw(st.sampled_from(sorted(places(whole), key=str)))
    value = data.draw(VALUES)
    expected = json.loads(json.dumps(whole))
    node = expected
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    assert parse(edited(text, {path: value}).encode(), "").value == expected


def test_comments_stay_where_they_are() -> None:
    text = "# head\na:  # of a\n  b: 1  # one\n\n  # before c\n  c: [2, 3]  # two\n# last\nd: |\n  long\n  text\n"
    assert edited(text, {("a", "b"): 5, ("a", "c"): "x", ("a", "e", "f"): [1], ("g",): None}) == (
        "# head\na:  # of a\n  b: 5  # one\n\n  # before c\n  c: x  # two\n  e: {f: [1]}\n# last\n"
        "d: |\n  long\n  text\ng: null\n"
    )
