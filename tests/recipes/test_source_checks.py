"""What validate says of a source's files and of the fields that are for files of one kind."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from recipes import Recipe, UserError, load
from recipes.paths import data_kind, hub_name, local_path, scheme
from runner.machine.hub import of_hub


def recipe(folder: Path, *sources: dict[str, Any]) -> Path:
    value = {"backend": "verl", "method": "sft", "model": {"path": "a/b"}, "data": {"train": list(sources)}}
    (folder / "r.yaml").write_text(json.dumps(value))
    return folder / "r.yaml"


def loaded(folder: Path, *sources: dict[str, Any]) -> Recipe:
    return load(recipe(folder, *sources)).recipe


def problems(folder: Path, *sources: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(recipe(folder, *sources))
    return [problem.text for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "a.jsonl",
        "a.JSON.gz",
        "a.csv",
        "a.TSV.zst",
        "a.txt",
        "a.parquet",
        "a.arrow",
        "d/train.csv",
        "d/test.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "field,value,acts,idle",
    [
        (
            "delimiter",
            ";",
            ["a.csv", "a.TSV.zst", "d", "*.csv"],
            ["a.jsonl", "a.txt", "a.arrow", "*.json*", "hub/name"],
        ),
        ("text", "line", ["a.txt"], ["a.jsonl", "a.csv", "d", "a.parquet", "hub/name"]),
        ("encoding", "gb18030", ["a.jsonl", "a.JSON.gz", "a.csv", "a.txt"], ["a.parquet", "a.arrow", "hub/name"]),
    ],
)
def test_a_field_is_refused_where_it_cannot_act(
    folder: Path, field: str, value: str, acts: list[str], idle: list[str]
) -> None:
    for path in acts:
        assert getattr(loaded(folder, {"path": path, field: value}).data.train[0], field) == value
    for path in idle:
        (text,) = problems(folder, {"path": path, field: value})
        assert text.startswith("belongs to ") and text.endswith("take it out") and path in text


def test_a_recipe_that_is_written_out_whole_is_taken(folder: Path) -> None:
    """With every default, those of fields that act on files of other kinds too."""
    whole = load(recipe(folder, {"path": "a.parquet"}, {"path": "hub/name"})).complete()
    (folder / "whole.yaml").write_text(json.dumps(whole))
    assert load(folder / "whole.yaml").recipe.data == load(folder / "r.yaml").recipe.data


def test_a_pattern_is_looked_up_before_anything_runs(folder: Path) -> None:
    source = loaded(folder, {"path": "a.*json*"}).data.train[0]
    assert source.path == str(folder.resolve() / "a.*json*"), "as local paths are, absolute"
    assert problems(folder, {"path": "b*.jsonl"}) == [f"{folder.resolve() / 'b*.jsonl'}: no data file has such a name"]
    assert "no split 'dev'; there: test, train" in problems(folder, {"path": "d/*", "split": "dev"})[0]
    assert "a.txt is plain text beside rows with columns" in problems(folder, {"path": "a.*"})[0]
    assert loaded(folder, {"path": "d/te*"}), "a pattern that means files of one split only means that split"
    assert "no split 'validation'" in problems(folder, {"path": "d/te*", "split": "validation"})[0]


def test_a_pattern_of_the_command_line_is_relative_to_where_it_was_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe(folder, {"path": "a.jsonl"})
    monkeypatch.chdir(folder / "d")
    assert load(file, ["data.train[0].path=tr*"]).recipe.data.train[0].path == str(folder.resolve() / "d/tr*")


def test_a_list_of_paths_is_one_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = loaded(folder, {"path": ["a.jsonl", "hub/name", "a.csv"], "delimiter": ";"}).data.train
    assert source.paths == (str(folder.resolve() / "a.jsonl"), "hub/name", str(folder.resolve() / "a.csv"))
    assert of_hub(loaded(folder, {"path": ["a.jsonl", "hub/name"]})) == ["a/b", "hub/name"]
    text = "belongs to csv and tsv files, and a.jsonl, hub/name holds json; take it out"
    assert problems(folder, {"path": ["a.jsonl", "hub/name"], "delimiter": ";"}) == [text]
    assert problems(folder, {"path": []}) == ["[] is not allowed; allowed: a path, or a list of paths"]
    assert problems(folder, {"path": {"a": "b"}}) == ["expected a path, or a list of paths, got a mapping"]
    assert problems(folder, {"path": ["a.csv", "a.csv"]}) == ['["a.csv", "a.csv"] names something twice']
    monkeypatch.chdir(folder / "d")
    (source,) = load(folder / "r.yaml", ["data.train[0].path=[train.csv, hub/name]"]).recipe.data.train
    assert source.paths == (str(folder.resolve() / "d/train.csv"), "hub/name")


def test_max_samples_is_a_count_or_a_fraction(folder: Path) -> None:
    for wanted in (1, 1000, 0.25):
        (source,) = loaded(folder, {"path": "a.jsonl", "max_samples": wanted, "shuffle": True}).data.train
        assert source.max_samples == wanted and source.shuffle
    allowed = "allowed: a whole number, at least 1, or a fraction between 0 and 1, or null"
    for odd in (0, -1, 1.5, "10%"):
        shown = json.dumps(odd)
        assert problems(folder, {"path": "a.jsonl", "max_samples": odd}) == [f"{shown} is not allowed; {allowed}"]
    text = "1.0 is neither a count, which is written without a point, nor a fraction below 1; null takes all"
    assert problems(folder, {"path": "a.jsonl", "max_samples": 1.0}) == [text]
    text = "belongs to max_samples, which says how many rows to take at random"
    assert problems(folder, {"path": "a.jsonl", "shuffle": True}) == [text]


def test_all_training_sources_have_a_weight_or_none(folder: Path) -> None:
    found = loaded(folder, {"path": "a.jsonl", "weight": 2}, {"path": "a.csv", "weight": 0.5}).data.train
    assert [source.weight for source in found] == [2, 0.5]
    text = "missing: other sources of data.train have one"
    assert problems(folder, {"path": "a.jsonl"}, {"path": "a.csv", "weight": 0.5}) == [text]
    assert problems(folder, {"path": "a.jsonl", "weight": 0}) == [
        "0 is not allowed; allowed: a number or null, above 0"
    ]
    value = json.loads(recipe(folder, {"path": "a.jsonl"}).read_text())
    value["data"]["validation"] = {"sources": [{"path": "a.csv", "weight": 1}]}
    (folder / "r.yaml").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"belongs to data.train: held-out rows are not mixed; take it out"):
        load(folder / "r.yaml")


def test_what_is_wrong_in_a_list_of_paths_has_its_place(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        loaded(folder, {"path": ["a.jsonl", "aa.jsonl"]})
    (problem,) = caught.value.problems
    assert "path[1]" in str(problem) and "did you mean 'a.jsonl'?" in problem.text
    value = json.loads(recipe(folder, {"path": ["a.csv", "a.jsonl"]}).read_text())
    value["data"]["validation"] = {"sources": [{"path": ["d", "a.jsonl"]}]}
    (folder / "r.yaml").write_text(json.dumps(value))
    with pytest.raises(UserError) as caught:
        load(folder / "r.yaml")
    (problem,) = caught.value.problems
    assert "sources[0].path[1]" in str(problem) and "the rows of data.train[0], which are trained on" in problem.text
    assert "no such file or directory" in problems(folder, {"path": ["./gone"], "format": "longbench"})[0]


@pytest.mark.parametrize(
    "trained,held_out,same",
    [
        ("ov", "ov/heldout.jsonl", True),
        ("ov/*.jsonl", "./ov/heldout.jsonl", True),
        ("ov/a.jsonl", "ov", True),
        ("link.jsonl", "ov/a.jsonl", True),
        ("ov/a.jsonl", "ov/heldout.jsonl", False),
        ("splits", "splits/validation.jsonl", False),
        ("splits", "splits/train.jsonl", True),
    ],
)
def test_no_file_is_trained_on_and_held_out(folder: Path, trained: str, held_out: str, same: bool) -> None:
    for name in ("ov/a", "ov/heldout", "splits/train", "splits/validation"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.jsonl").write_text('{"prompt": "q", "response": "a"}\n')
    (folder / "link.jsonl").symlink_to("ov/a.jsonl")
    value = json.loads(recipe(folder, {"path": trained}).read_text())
    value["data"]["validation"] = {"sources": [{"path": held_out}]}
    (folder / "r.yaml").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"the rows of data.train\[0\]") if same else nullcontext():
        load(folder / "r.yaml")


def test_other_subsets_of_longbench_may_be_held_out(folder: Path) -> None:
    value = json.loads(recipe(folder, {"path": "a/b", "format": "longbench", "subsets": ["hotpotqa"]}).read_text())
    for subset, same in (("qasper", False), ("hotpotqa", True)):
        value["data"]["validation"] = {"sources": [{"path": "a/b", "format": "longbench", "subsets": [subset]}]}
        (folder / "r.yaml").write_text(json.dumps(value))
        with pytest.raises(UserError, match=r"the rows of data.train\[0\]") if same else nullcontext():
            load(folder / "r.yaml")


def test_stores_are_neither_paths_nor_the_hub(folder: Path) -> None:
    urls = ["s3://bucket/rows.jsonl.gz", "gs://b/data/*.CSV", "hf://datasets/a/b@main/train/", "hf://datasets/a/b"]
    found = loaded(folder, *({"path": url} for url in urls))
    assert [source.path for source in found.data.train] == urls
    assert of_hub(found) == ["a/b", *urls[2:]], "what cannot be had without the Hub"
    assert loaded(folder, {"path": "hf://datasets/a/b", "subset": "x", "split": "dev"})
    assert problems(folder, {"path": "s3://b/rows.xlsx"})[0].startswith("cannot read .xlsx; allowed: json")
    assert problems(folder, {"path": "hf://models/a/b"})[0].endswith("write hf://datasets/NAME/FILE")
    assert problems(folder, {"path": "s3://b/rows.jsonl", "text": "line"})[0].startswith("belongs to txt files")
    assert loaded(folder, {"path": "s3://b/folder", "text": "line"}), "what is in it the store knows"


@pytest.mark.parametrize(
    "text,name",
    [
        ("hf://datasets/a/b", ("a/b", None)),
        ("hf://datasets/squad/", ("squad", None)),
        ("hf://datasets/a/b@refs", ("a/b", "refs")),
        ("hf://datasets/a/b/c", None),
        ("hf://datasets/a/b.jsonl", None),
        ("hf://datasets/a/*", None),
        ("a/b", None),
    ],
)
def test_a_whole_data_set_is_told_from_its_files(text: str, name: tuple[str, str | None] | None) -> None:
    assert hub_name(text) == name


def test_names_are_told_apart() -> None:
    kinds = {"a.JSONL": "json", "a.csv.ZST": "csv", "a.Txt.gz": "text", "a.feather": "arrow", "a.arrow.gz": None}
    assert {name: data_kind(Path(name)) for name in kinds} == kinds
    assert (scheme("s3://a"), scheme("S3://a"), scheme("a/b"), scheme("/x://y")) == ("s3", "s3", None, None)
    assert local_path("s3://a/rows.jsonl", Path("/")) is None


def test_validate_imports_nothing_that_reads_files(folder: Path) -> None:
    file = recipe(folder, {"path": "a.csv", "encoding": "gb18030"}, {"path": "s3://b/a.csv"}, {"path": "a.*json*"})
    code = f"import sys, recipes; recipes.load({str(file)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fsspec", "pyarrow", "datasets", "torch"} & set(done.stdout.split())
