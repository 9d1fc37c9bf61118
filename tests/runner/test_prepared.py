"""Prepared data that serve a later run: only where nothing that they are made of has changed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recipes import load
from runner.training import prepared
from runner.training.prepare import specification

PYTHON = Path("/environments/llamafactory-cpu-0123/bin/python")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(prepared.LIMIT, "1")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A model, a file and a directory of rows, a template and a suite's rows."""
    for name in ("model/tokenizer.json", "model/config.json", "model/code.py", "rows.jsonl", "more/train.jsonl",
                 "more/b/train.jsonl", "template.jinja", "suite.jsonl", "model/model.safetensors"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{{}} {name}\n")
    return tmp_path


def key(made: Path, *overrides: str, python: Path = PYTHON) -> str | None:
    given = [
        f"model.path={made}/model",
        f"model.chat_template={made}/template.jinja",
        f"data.train=[{{path: {made}/rows.jsonl}}, {{path: {made}/more}}]",
        f"eval={{suites: [truthfulqa], data: {{truthfulqa: {made}/suite.jsonl}}}}",
        "data.validation={}",
        *overrides,
    ]
    recipe = load("quickstart", given).recipe
    return prepared.key(specification(recipe, recipe.model.path, made / "run" / "data"), python)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a row": lambda made: (made / "rows.jsonl").write_text("{} rows.jsonL\n"),
    "a row in a directory": lambda made: (made / "more/b/train.jsonl").write_text("{}\n"),
    "a new file": lambda made: (made / "more/train-2.jsonl").write_text("{}\n"),
    "a file less": lambda made: (made / "more/b/train.jsonl").unlink(),
    "another name": lambda made: (made / "more/b/train.jsonl").rename(made / "more/b/test.jsonl"),
    "the tokenizer": lambda made: (made / "model/tokenizer.json").write_text("{} "),
    "the model's code": lambda made: (made / "model/code.py").write_text("pass"),
    "the template": lambda made: (made / "template.jinja").write_text("{{ 1 }}"),
    "what is scored": lambda made: (made / "suite.jsonl").write_text(""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_they_are_made_of_is_in_the_name(change: str, made: Path) -> None:
    before = key(made)
    assert before and before == key(made)
    times = {file: file.stat().st_mtime for file in made.rglob("*")}
    CHANGES[change](made)
    for file, time in times.items():  # not by when a file was written
        if file.exists():
            os.utime(file, (time, time))
    assert key(made) not in (before, None)


@pytest.mark.parametrize(
    "override",
    ["data.max_length=128", "data.seed=1", "data.train_on=last_turn", "data.packing=true", "data.dedup=exact",
     "model.chat_template_kwargs={a: 1}", "data.train[0].system=You count.", "method=pretrain"],
)  # fmt: skip
def test_every_setting_is_in_the_name(override: str, made: Path) -> None:
    overrides = [override]
    if override.startswith("method"):
        overrides += [f"data={{train: [{{path: {made}/rows.jsonl, format: text}}]}}", "eval={}"]
    assert key(made, *overrides) not in (key(made), None)


def test_what_does_not_touch_the_rows_is_not(made: Path) -> None:
    before = key(made)
    (made / "model/model.safetensors").write_text("other weights")
    assert key(made) == before == key(made, "training.learning_rate=1e-5", "tuning.rank=4", "name=other")
    assert key(made, python=PYTHON.with_name("python3")) != before


def test_what_has_no_content_here_is_prepared_each_time(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key(made, "model.path=org/model") is None
    assert key(made, "model.path=org/model", "model.revision=main") is None
    assert key(made, "model.path=org/model", f"model.revision={'a' * 40}")
    assert key(made, "data.train=[{path: org/data, split: train}]") is None
    assert key(made, "data.train=[{path: 's3://bucket/rows.jsonl'}]") is None
    monkeypatch.setenv(prepared.LIMIT, "0")
    assert key(made) is None


def run_data(directory: Path, size: int) -> Path:
    (directory / "tokenized" / "train").mkdir(parents=True)
    (directory / "tokenized" / "train" / "data.arrow").write_bytes(random.Random(size).randbytes(size))
    for name in ("accounting.json", "train.jsonl", "spec.json"):
        (directory / name).write_text(name)
    return directory


def files(directory: Path) -> dict[str, bytes]:
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}


def test_an_entry_comes_back_byte_for_byte(tmp_path: Path) -> None:
    data = run_data(tmp_path / "a", 1000)
    assert not prepared.take("k", tmp_path / "b")
    prepared.keep("k", data)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "spec.json").write_text("its own")
    assert prepared.take("k", tmp_path / "b")
    assert files(tmp_path / "b") == files(data) | {"spec.json": b"its own"}
    shutil.rmtree(data)  # a copy, not a link
    (tmp_path / "b" / "train.jsonl").write_text("edited by hand")
    assert prepared.take("k", tmp_path / "c") and (tmp_path / "c" / "train.jsonl").read_text() == "train.jsonl"


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prepared.LIMIT, str(2500 / 1e9))
    for number, name in enumerate("abc"):
        prepared.keep(name, run_data(tmp_path / name, 1000))
        os.utime(tmp_path / "cache" / "data" / name, (number, number))
        if name == "b":
            assert prepared.take("a", tmp_path / "used")  # now the newest
    assert sorted(entry.name for entry in (tmp_path / "cache" / "data").iterdir()) == ["a", "c"]
    prepared.keep("huge", run_data(tmp_path / "huge", 3000))
    assert not list((tmp_path / "cache" / "data").iterdir()), "what is larger than all the room is not kept"
