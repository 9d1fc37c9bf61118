"""Data that were prepared once serve the next run, byte for byte what it would have prepared itself."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from recipes import load
from runner.files import cache_directory
from runner.runs import rundir as rundir
from runner.training import prepared
from runner.training.prepare import prepare

pytestmark = pytest.mark.real


def made(
    tmp_path: Path, name: str, model: Path, rows: Path, python: Path, *overrides: str
) -> tuple[list[str], dict[str, bytes]]:
    """What the preparation says, and the bytes that it leaves."""
    given = [f"model.path={model}", f"data.train=[{{path: {rows}}}]", *(overrides or ["data.packing=true"])]
    loaded = load("quickstart", given)
    run, said = rundir.create(loaded, tmp_path / "runs", name), list[str]()
    prepare(run, loaded.recipe, python, str(model), said.append)
    data = run.path / "data"
    files = {str(file.relative_to(data)): file.read_bytes() for file in data.rglob("*") if file.is_file()}
    spec = json.loads(files.pop("spec.json"))
    assert spec["directory"] == str(data)
    for file in [name for name in files if name.endswith(("state.json", "dataset_info.json"))]:
        files.pop(file)  # fingerprints of `datasets`, drawn anew each time
    return said, files


def test_a_second_run_takes_them_and_a_changed_row_does_not(
    llamafactory_python: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"instruction": f"Say {n}.", "output": f"It is {n}."}) for n in range(40)]
    rows.write_text("\n".join(lines) + "\n")
    before = {entry.name for entry in (cache_directory() / "data").glob("*")}
    _, fresh = made(tmp_path, "fresh", tiny_model, rows, llamafactory_python)
    monkeypatch.setenv(prepared.LIMIT, "1")
    try:
        said, first = made(tmp_path, "first", tiny_model, rows, llamafactory_python)
        assert said[0] == "preparing the data" and first == fresh
        told, second = made(tmp_path, "second", tiny_model, rows, llamafactory_python)
        assert told[0].startswith("the data are prepared") and second == fresh
        assert told[1:] == [line for line in said[1:] if not line.endswith("rows read")]
        assert not (tmp_path / "runs" / "second" / "logs" / "prepare.log").exists(), "nothing was started"
        rows.write_text("\n".join([*lines[:-1], lines[0]]) + "\n")
        said, third = made(tmp_path, "third", tiny_model, rows, llamafactory_python)
        assert said[0] == "preparing the data" and third != fresh
    finally:
        for entry in (cache_directory() / "data").glob("*"):
            if entry.name not in before:
                shutil.rmtree(entry)


@pytest.mark.parametrize("method", ["sft", pytest.param("kto", marks=pytest.mark.slow)])
def test_the_number_of_workers_changes_nothing(
    method: str, llamafactory_python: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of all lengths, some too long, some damaged, some twice; KTO looks at the rows before its own."""
    rows, chance = tmp_path / "rows.jsonl", random.Random(3)
    with rows.open("w") as stream:
        for n in range(1400):
            words = " ".join(f"word{chance.randrange(30)}" for _ in range(chance.choice([1, 5, 40, 400])))
            row = {"prompt": f"Say {n % 700}.", "completion": words, "label": n % 3 == 0}
            sft = {"instruction": f"Say {n % 700}.", "output": words}
            stream.write(chance.choice(["{torn", "[]"]) if n % 97 == 5 else json.dumps(sft if method == "sft" else row))
            stream.write("\n")
    wanted = [f"method={method}", "data.on_bad_row=drop", "data.dedup=exact"]
    monkeypatch.setenv("RECIPE_WORKERS", "1")
    told, one = made(tmp_path, "one", tiny_model, rows, llamafactory_python, *wanted)
    monkeypatch.setenv("RECIPE_WORKERS", "3")
    said, three = made(tmp_path, "three", tiny_model, rows, llamafactory_python, *wanted)
    assert one == three and len(one["train.jsonl"].splitlines()) > 700
    told, said = ([line for line in lines if not line.endswith("rows read")] for lines in (told, said))
    assert told == said or told[2:] == said[2:]
    assert json.loads(one["accounting.json"])["dropped"].keys() >= {"longer than max_length"}
