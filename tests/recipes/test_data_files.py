"""Which files of a directory are data: no leftovers of tools, no other split, and nothing passed over unsaid."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from recipes import UserError, load
from recipes.data_files import choose


def make(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return root


def names(root: Path, split: str | None = "train") -> list[str]:
    return [str(file.relative_to(root)) for file in choose(root, split).files]


def refusal(root: Path, split: str | None = "train") -> str:
    with pytest.raises(UserError) as caught:
        choose(root, split)
    return str(caught.value)


@pytest.mark.parametrize(
    "leftover",
    [
        ".ipynb_checkpoints/a-checkpoint.jsonl",
        "._a.jsonl",
        ".cache/huggingface/download/a.json",
        ".git/config.json",
        "__MACOSX/a.jsonl",
        "dataset_info.json",
        "dataset_infos.json",
        "state.json",
        "README.md",
        "readme.txt",
        "LICENSE",
        ".gitattributes",
        "_SUCCESS",
    ],
)
def test_what_tools_leave_is_no_data(tmp_path: Path, leftover: str) -> None:
    assert names(make(tmp_path, "a.jsonl", leftover)) == ["a.jsonl"]


def test_every_kind_that_is_read(tmp_path: Path) -> None:
    read = ["a.json", "b.jsonl", "c.JSONL", "d.ndjson", "e.csv", "f.tsv", "g.parquet", "h.jsonl.gz"]
    read += ["i.json.zst", "j.ARROW", "k.feather", "sub/l.Csv.GZ", "sub/m.TSV.ZST"]
    assert names(make(tmp_path, *read)) == read


@pytest.mark.parametrize(
    "other", ["b.jsonl.bz2", "b.jsonl.gz.gz", "b.arrow.zst", "b.xlsx", "b.parquet.gz", "b.gz", "b", "b.bin"]
)
def test_what_is_there_and_not_read_is_an_error_that_names_it(tmp_path: Path, other: str) -> None:
    shown = refusal(make(tmp_path, "a.jsonl", other))
    assert f"cannot read {other}; allowed: json, jsonl" in shown


@pytest.mark.parametrize(
    "there,split,read",
    [
        (["train.jsonl", "test.jsonl", "validation.jsonl"], "train", ["train.jsonl"]),
        (["train.jsonl", "test.jsonl", "val.jsonl"], "validation", ["val.jsonl"]),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"],
         "train", ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]),
        (["train/0.jsonl", "train/1.jsonl", "test/0.jsonl"], "test", ["test/0.jsonl"]),
        (["train_prefs-00000-of-00001.jsonl", "test_prefs-00000-of-00001.jsonl"], "train_prefs",
         ["train_prefs-00000-of-00001.jsonl"]),
        (["train_prefs-00000-of-00001.jsonl", "test_prefs-00000-of-00001.jsonl"], "train",
         ["train_prefs-00000-of-00001.jsonl"]),
        (["train_sft-0-of-1.parquet", "train_gen-0-of-1.parquet"], "train_gen", ["train_gen-0-of-1.parquet"]),
        (["train.jsonl", "train_sft.jsonl"], "train", ["train.jsonl"]),
        (["my-data-train.json", "my-data-dev.json"], "train", ["my-data-train.json"]),
        (["train_part0.jsonl", "train_part1.jsonl", "eval.jsonl"], "train", ["train_part0.jsonl", "train_part1.jsonl"]),
        (["Train.jsonl", "TEST.jsonl.gz"], "test", ["TEST.jsonl.gz"]),
        (["train/a.jsonl", "train/a.test.jsonl"], "train", ["train/a.jsonl"]),
        (["contest.jsonl", "latest.jsonl", "trains.jsonl"], "train", ["contest.jsonl", "latest.jsonl", "trains.jsonl"]),
    ],
)  # fmt: skip
def test_files_and_folders_named_after_splits_are_splits(
    tmp_path: Path, there: list[str], split: str, read: list[str]
) -> None:
    chosen = choose(make(tmp_path, *there), split)
    assert [str(file.relative_to(tmp_path)) for file in chosen.files] == read
    left = {str(file.relative_to(tmp_path)) for files in chosen.left_out.values() for file in files}
    assert left == set(there) - set(read), "each file is read or named as left out"


def test_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    make(tmp_path, "train_prefs.jsonl", "train_sft.jsonl", "test_prefs.jsonl")
    assert "no split 'train'; there: test_prefs, train_prefs, train_sft" in refusal(tmp_path)
    assert "no split 'test_pref'" in refusal(tmp_path, "test_pref")
    assert "did you mean 'test_prefs'?" in refusal(tmp_path, "test_pref")


def test_test_rows_are_never_read_unasked(tmp_path: Path) -> None:
    assert "no split 'train'; there: test" in refusal(make(tmp_path, "test.jsonl"))
    assert names(tmp_path, "test") == ["test.jsonl"]


def test_a_file_of_no_split_beside_splits_is_an_error(tmp_path: Path) -> None:
    assert "more.jsonl belongs to no split" in refusal(make(tmp_path, "train.jsonl", "more.jsonl"))


def test_a_split_where_none_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    assert "no split 'test'" in refusal(tmp_path, "test")
    assert "a single file has no split 'test'" in refusal(tmp_path / "a.jsonl", "test")
    assert choose(make(tmp_path, "sub/test.jsonl") / "sub/test.jsonl", "train").files, (
        "a file that is named is asked for"
    )


def test_without_a_split_several_are_refused(tmp_path: Path) -> None:
    assert names(make(tmp_path / "one", "test.jsonl"), None) == ["test.jsonl"]
    assert "holds several splits, test, train" in refusal(make(tmp_path / "two", "test.jsonl", "train.jsonl"), None)


def test_a_link_to_a_directory_is_followed_and_a_circle_ends(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "b.jsonl")
    make(tmp_path / "d", "a.jsonl")
    (tmp_path / "d/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d/self").symlink_to(tmp_path / "d")
    assert names(tmp_path / "d") == ["a.jsonl", "more/b.jsonl"]


@pytest.mark.parametrize("path", ["", "**/*.jsonl"])
def test_a_directory_that_may_not_be_read_is_named(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "top.jsonl").touch()
    scandir = os.scandir

    def refused(here: Any) -> Any:
        if Path(os.fsdecode(here)).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(here))
        return scandir(here)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match="/closed: Permission denied"):
        choose(tmp_path / path, "train")


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(UserError, match=r"/a\.jsonl: No such file"):
        choose(tmp_path, "train")


def test_what_is_no_file_is_refused_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jsonl"))
    assert "is a pipe, not a file" in refusal(tmp_path / "pipe.jsonl")
    assert "is a device, not a file" in refusal(tmp_path / "zero.jsonl")
    assert "is a socket, not a file" in refusal(tmp_path / "socket.jsonl")
    assert "No such file" in refusal(tmp_path)


def test_an_empty_directory(tmp_path: Path) -> None:
    assert "no data in this directory" in refusal(tmp_path)


def saved(root: Path, split: str | None = None) -> Path:
    make(root, "data-00000-of-00001.arrow", "dataset_info.json")
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
    (root / "state.json").write_text(json.dumps(state))
    return root


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    chosen = choose(saved(tmp_path / "d"), "train")
    assert [file.name for file in chosen.files] == ["data-00000-of-00001.arrow"]
    assert "no split 'train'; there: test" in refusal(saved(tmp_path / "t", "test"))
    assert "what datasets.save_to_disk wrote" in refusal(tmp_path)
    (tmp_path / "d/data-00000-of-00001.arrow").rename(tmp_path / "d/data-00001-of-00002.arrow")
    assert "data-00000-of-00001.arrow is missing" in refusal(tmp_path / "d")


def test_splits_that_save_to_disk_wrote(tmp_path: Path) -> None:
    saved(tmp_path / "train"), saved(tmp_path / "test")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert names(tmp_path) == ["train/data-00000-of-00001.arrow"]
    assert names(tmp_path, "test") == ["test/data-00000-of-00001.arrow"]
    assert "no split 'dev'; there: train, test" in refusal(tmp_path, "dev")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        '{"_data_files": 1}',
        '{"_data_files": [1]}',
        '{"_data_files": [{"filename": "../x"}]}',
        "[" * 9999,
    ],
)
def test_a_damaged_state_of_save_to_disk_is_an_error(tmp_path: Path, text: str) -> None:
    (saved(tmp_path) / "state.json").write_text(text)
    assert str(tmp_path) in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"splits": "train"}', '{"splits": ["../train"]}', '{"splits": [1]}'])
def test_damaged_splits_of_save_to_disk_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset_dict.json").write_text(text)
    assert "dataset_dict.json" in refusal(tmp_path)


def test_a_recipe_is_refused_for_its_directory_before_anything_runs(tmp_path: Path) -> None:
    make(tmp_path / "d", "train.jsonl", "test.jsonl")
    make(tmp_path / "e", "a.jsonl", "b.jsonl.xz")
    sources = [{"path": "d", "split": "dev"}, {"path": "e"}]
    recipe = {"backend": "verl", "method": "sft", "model": {"path": "a/b"}, "data": {"train": sources}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    with pytest.raises(UserError) as caught:
        load(tmp_path / "r.yaml")
    dev, xz = map(str, caught.value.problems)
    assert "data.train[0].path: " in dev and "no split 'dev'; there: test, train" in dev
    assert "data.train[1].path: " in xz and "cannot read b.jsonl.xz" in xz
