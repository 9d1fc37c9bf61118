"""Rows that hold what a recipe is scored by: found as a slow reading of GPT-3's measure finds them."""

from __future__ import annotations

import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from runner.data.check import check
from runner.data.contamination import Scored, read_scored, words_of
from runner.data.row import BadData
from runner.training.inspect import file_spec
from runner.training.views import check_text

VOCABULARY = ["the", "rate", "of", "a", "bond", "falls", "when", "its", "price", "rises", "and", "not"]


def slow(texts: list[str], row: str) -> bool:
    """The measure as it is told, word by word."""
    found = [words_of(text) for text in texts]
    lengths = sorted(len(words) for words in found if words)
    size = min(13, max(8, lengths[int(0.05 * len(lengths))])) if lengths else 13
    runs = {" ".join(words[n : n + size]) for words in found for n in range(len(words) - size + 1)}
    mine = words_of(row)
    return any(" ".join(mine[n : n + size]) in runs for n in range(len(mine) - size + 1))


def test_what_is_found_is_what_the_slow_reading_finds() -> None:
    chance, hits = random.Random(3), 0
    for _ in range(400):
        texts = [" ".join(chance.choices(VOCABULARY, k=chance.randint(1, 30))) for _ in range(chance.randint(1, 5))]
        row = " ".join(chance.choices(VOCABULARY, k=30))
        if chance.random() < 0.6:  # a piece of a text, in other capitals, with other punctuation
            words = chance.choice(texts).split()
            start = chance.randint(0, len(words))
            piece = words[start : start + chance.randint(1, 16)]
            row = f"{row}, {', '.join(piece).upper()}! {row}"
        expected = slow(texts, row)
        hits += expected
        assert bool(Scored({"x": texts}).suite_in({"messages": [{"role": "user", "content": row}]})) == expected
    assert 20 < hits < 380


def test_chinese_has_a_word_a_character() -> None:
    scored = Scored({"qmsum": ["会议决定下个月再讨论这个预算问题。"]})
    assert scored.suite_in({"text": "据说，会议决定下个月再讨论这个预算问题！"}) == "qmsum"
    assert scored.suite_in({"text": "会议决定下周"}) == ""


QUESTION = "What did the group decide about the remote control's price and its colour?"
ROW = {"input": QUESTION, "context": "Secret words " * 20, "answers": ["They decided to wait."], "_id": "x " * 20}
OTHER = "Another question that is long enough to be told."


def test_suites_are_read_from_where_they_lie(tmp_path: Path) -> None:
    line = json.dumps(ROW) + "\n"
    (tmp_path / "lb").mkdir()
    (tmp_path / "lb" / "qmsum.jsonl").write_text(line)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        packed.writestr("data/qmsum.jsonl", line)
        packed.writestr("data/trec.jsonl", json.dumps({**ROW, "input": OTHER}))
    (tmp_path / "t.csv").write_text(f"Type,Question,Best Answer\nAdversarial,{QUESTION},x\n")
    (tmp_path / "t.json").write_text(json.dumps([ROW]))
    places = {"lb": ("qmsum", "longbench"), "data.zip": ("qmsum",), "t.csv": ("truthfulqa",), "t.json": ("reference",)}
    for name, suites in places.items():
        for suite in suites:
            scored = read_scored({suite: str(tmp_path / name)}, ())
            assert scored.suite_in({"text": f"Please: {QUESTION.upper()}"}) == suite
            assert scored.suite_in({"text": ROW["context"]}) == "" and scored.suite_in({"text": ROW["_id"]}) == ""
    zipped = str(tmp_path / "data.zip")
    assert read_scored({"qmsum": zipped}, ()).suite_in({"text": OTHER}) == ""
    assert read_scored({"longbench": zipped}, ("trec",)).suite_in({"text": OTHER}) == "longbench"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("{")
    with pytest.raises(BadData, match=r"t.jsonl: cannot be compared with the training rows"):
        read_scored({"reference": str(tmp_path / "t.jsonl")}, ())


def test_a_check_names_the_rows_that_training_counts(tmp_path: Path) -> None:
    question = "what did the whole group decide about the price of it"
    rows = [{"instruction": f"{n}: {question if n % 2 else 'and'}?", "output": "yes"} for n in range(6)]
    for name in ("a", "held"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = replace(file_spec(str(tmp_path / "a.jsonl")), unseen=("longbench",))
    held = replace(spec.data.validation, sources=(replace(spec.data.train[0], path=str(tmp_path / "held.jsonl")),))
    spec, scored = replace(spec, data=replace(spec.data, validation=held)), Scored({"qmsum": [question]})
    told = "contamination: holds a question or reference of the suite qmsum, by which the recipe is scored"
    found = check(spec, None, 2, scored)
    assert found.rows == found.usable == 12
    assert found.notes == {told: 3}, "held-out rows are not trained on"
    assert found.contaminated == tuple(f"{tmp_path}/a.jsonl:{line}: {told}" for line in (2, 4))
    text = check_text(found)
    assert f"scored by: {tmp_path}/a.jsonl:2: {told}" in text and "not compared with the data of longbench" in text
    found = check(replace(spec, data=replace(spec.data, contamination="drop")), None, 2, scored)
    assert found.dropped == {told: 3} and found.usable == 9
