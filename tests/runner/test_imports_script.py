"""`recipe import` of a script for verl: arrays as bash has them, and what only a branch sets is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner.imports import shell
from runner.imports.read import Imported, import_file

ARRAYS = ("DATA", "more_2")
PIECES = ("a=1", "'b=two words'", '"c=$size"', "d=${size}", 'e="[1, 2]"', "f=$((2 * 3))", "# said (once")
WORDS = st.sampled_from(PIECES)
LISTS = st.lists(
    st.tuples(st.sampled_from(ARRAYS), st.sampled_from(["", "+"]), st.booleans(), st.lists(WORDS, max_size=4)),
    max_size=5,
)


@pytest.mark.skipif(not shutil.which("bash"), reason="compares with bash")
@given(LISTS)
def test_arrays_are_read_as_bash_reads_them(lists: list[tuple[str, str, bool, list[str]]]) -> None:
    lines = ["size=7", "SEVERAL='x=1 y=2'", *(f"{name}=()" for name in ARRAYS)]
    for name, more, one_line, words in lists:
        between = " " if one_line and not any(word.startswith("#") for word in words) else "\n    "
        lines.append(f"{name}{more}=({between}{between.join(words)}{between[0]})")
    used = " \\\n    ".join([*(f'"${{{name}[@]}}"' for name in ARRAYS), "$SEVERAL"])
    text = "\n".join([*lines, f"printf '%s\\0' the.trainer {used}"])
    told = subprocess.run(["bash", "-c", text], capture_output=True, check=True, env={"PATH": os.environ["PATH"]})
    assert shell.command(text, ["the.trainer"])[2:] == told.stdout.decode().split("\0")[:-1]


def imported(directory: Path, text: str) -> Imported:
    file = directory / "run.sh"
    file.write_text(text)
    return import_file(file, 1)


BRANCHES = st.sampled_from([("if [ $A = 1 ]; then", "fi"), ("case $A in\n x)", ";;\nesac"), ("f() {", "}")])


@given(BRANCHES, st.booleans(), st.integers(0, 2))
def test_what_a_branch_sets_is_told_and_not_taken(
    tmp_path_factory: pytest.TempPathFactory, branch: tuple[str, str], before: bool, deep: int
) -> None:
    inside = "size=16\nEXTRA+=(\n  model.lora_rank=8\n)"
    for _ in range(deep + 1):
        inside = f"{branch[0]}\n{inside}\n{branch[1]}"
    text = f"# for verl.trainer.sft_trainer\n{'size=64' if before else ''}\nEXTRA=()\n{inside}\nDATA=(\n"
    text += "  data.train_files=a.parquet\n  data.train_batch_size=$size\n)\n"
    text += 'torchrun -m verl.trainer.sft_trainer model.path=a/b "${DATA[@]}" "${EXTRA[@]}" "$@"\n'
    found = imported(tmp_path_factory.mktemp("one"), text)
    recipe = yaml.safe_load(found.text)
    lost = {entry.key for entry in found.entries if entry.status == "no place"}
    assert {"$EXTRA", "$size" if before else "data.train_batch_size"} <= lost
    assert recipe["data"]["train"] == [{"path": "a.parquet"}] and recipe["tuning"] == {"type": "full"}
    assert recipe["training"]["global_batch_size"] == (64 if before else 256)


BESIDE = ("--config-name=mine", "--config-path ../conf", "-cn mine", "~trainer.logger", "$MORE")


@pytest.mark.parametrize("word", BESIDE)
def test_a_configuration_beside_the_command_is_told(word: str, tmp_path: Path) -> None:
    text = f"python3 -m verl.trainer.sft_trainer {word} model.path=a/b data.train_files=a.parquet\n"
    found = imported(tmp_path, text)
    assert word.split()[0] in {entry.key for entry in found.entries if entry.status == "no place"}
