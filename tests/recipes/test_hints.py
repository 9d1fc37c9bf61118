"""Unknown fields: who comes with another program's word is told ours, on every level and in `--set`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipes import UserError, load_text, schema
from recipes.hints import HINTS

MINIMAL = b"backend: llamafactory\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"
LEVELS = ("", "training.", "tuning.", "data.", "eval.", "checkpoint.", "data.train[0].")


def said(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_text(MINIMAL, Path("r.yaml"), overrides)
    return str(caught.value)


@pytest.mark.parametrize("level", LEVELS)
def test_a_word_of_another_program_is_answered_on_every_level(level: str) -> None:
    for word, answer in HINTS.items():
        assert f"unknown field; {answer}" in said(f"{level}{word}=1"), (level, word)


def test_every_answer_names_a_field_that_there_is() -> None:
    leaves = schema.leaves()
    known = {name.rsplit(".", n)[0].removesuffix("[]") for name in leaves for n in range(name.count(".") + 1)}
    for word, answer in HINTS.items():
        found = re.match(r"here it is ([\w.\[\]]+)", answer)
        assert found is None or found[1] in known | leaves.keys(), (word, answer)


def test_no_word_of_another_program_is_a_name_of_ours() -> None:
    """Such a word would be answered by the table where only its place is wrong."""
    assert not HINTS.keys() & {leaf.rpartition(".")[2] for leaf in schema.leaves()}


@pytest.mark.parametrize(
    "given,expected",
    [
        ("training.rank=3", "here it is tuning.rank"),
        ("learning_rate=1", "here it is training.learning_rate"),
        ("max_samples=1", "here it is data.train[].max_samples or data.max_samples or eval.max_samples"),
        ("training.learning_rat=1", "did you mean 'learning_rate'?"),
        ("tuning.LORA-R=1", "here it is tuning.rank"),
        ("data.train.max_samples=3", "train is a list: write data.train[0].max_samples"),
    ],
)
def test_a_field_at_another_place_is_shown_its_own(given: str, expected: str) -> None:
    assert expected in said(given)
