"""Preferences of the shapes that people have, and columns that are made of several."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recipes.encode import BadRow
from runner.data.formats import convert, detect
from runner.data.honoured import Unwanted
from runner.data.spec import source_of

PLAIN = source_of("r")


def pair(row: dict[str, Any], name: str = "ranked") -> tuple[str, str]:
    found = convert(row, name, PLAIN).row
    assert found["prompt"] == [{"role": "user", "content": "q"}]
    return found["chosen"][0]["content"], found["rejected"][0]["content"]


ULTRAFEEDBACK = {
    "instruction": "q", "source": "x",
    "completions": [
        {"model": "a", "response": "so so", "overall_score": 5.0, "annotations": {}},
        {"model": "b", "response": "bad", "overall_score": 1.5, "annotations": {}},
        {"model": "c", "response": "good", "overall_score": 8.5, "annotations": {}},
    ],
}  # fmt: skip


def test_the_best_stands_against_the_worst() -> None:
    assert pair(ULTRAFEEDBACK) == ("good", "bad")
    assert convert(ULTRAFEEDBACK, "ranked", PLAIN).unused == {"source"}
    assert pair({"prompt": "q", "completions": ["x", "y", "z"], "scores": [1, 3, 2]}) == ("y", "x")
    assert pair({"prompt": "q", "responses": ["x", "y", "z"], "ranks": [1, 3, 2]}) == ("x", "y")
    nectar = [{"answer": "x", "model": "a", "rank": 2.0}, {"answer": "y", "model": "b", "rank": 1.0}]
    assert pair({"prompt": "q", "completions": nectar}) == ("y", "x")
    assert pair({"prompt": "q", "responses": '["x", "y"]', "scores": "[0, 0.5]"}) == ("y", "x")  # cells of a csv
    for method in ("dpo", "orpo", "kto"):
        assert detect(ULTRAFEEDBACK, method) == "ranked"


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=6))
def test_any_scores(scores: list[float]) -> None:
    assume(max(scores) > min(scores))
    chosen, rejected = pair({"prompt": "q", "completions": [f"r{n}" for n in range(len(scores))], "scores": scores})
    assert scores[int(chosen[1:])] == max(scores) and scores[int(rejected[1:])] == min(scores)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completions": ["x"], "scores": [1]}, "completions must be a list of two replies or more"),
        ({"completions": ["x", "y"]}, "nothing says which of completions is better; expected scores, ratings, ranks"),
        ({"completions": [{"text": "x", "rank": 1}, {"text": "y"}]}, "completions\\[\\].rank: 'None' is no number"),
        ({"completions": ["x", "y"], "scores": [1]}, "scores must be a list of 2 numbers"),
        ({"completions": ["x", "y"], "scores": [1, "good"]}, "scores: 'good' is no number"),
        ({"completions": ["x", "y"], "scores": [1, float("nan")]}, "a score is no finite number"),
        ({"completions": ["x", {"score": 1}], "scores": [1, 2]}, "completions\\[1\\] has no text"),
        ({"completions": ["x", " "], "scores": [1, 2]}, "completions\\[1\\] is empty"),
        ({"completions": ["x", "x"], "scores": [1, 2]}, "equal: nothing to prefer"),
    ],
)
def test_what_cannot_be_ranked_is_told(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRow, match=message):
        convert({"prompt": "q", **row}, "ranked", PLAIN)


def test_equal_scores_prefer_nothing_and_are_counted() -> None:
    with pytest.raises(Unwanted, match="the same score"):
        convert({"prompt": "q", "completions": ["x", "y"], "scores": [2, 2]}, "ranked", PLAIN)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=5, unique=True), st.integers(1, 12))
def test_pairs_whose_scores_are_near_are_left_out(scores: list[int], least: int) -> None:
    replies = [f"r{n}" for n in range(len(scores))]
    source = source_of("r", min_margin=least)
    best, worst = max(scores), min(scores)
    for row, name in (
        ({"prompt": "q", "completions": replies, "scores": scores}, "ranked"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": best, "score_rejected": str(worst)},
            "preference",
        ),
    ):
        if best - worst >= least:
            found = convert(row, name, source)
            assert found.row == convert(row, name, PLAIN).row and not found.unused
        else:
            with pytest.raises(Unwanted, match="scores that differ by less than min_margin"):
                convert(row, name, source)


@pytest.mark.parametrize(
    "row,name,message",
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference", "no 'score_chosen', which min_margin compares"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": None}, "preference",
         "no 'score_rejected'"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": "high", "score_rejected": 1}, "preference",
         "score_chosen is 'high', which is no number"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 4}, "preference",
         "scores that prefer the rejected reply"),
        ({"prompt": "q", "completion": "a", "label": True}, "feedback", "min_margin is for pairs with scores"),
    ],
)  # fmt: skip
def test_a_margin_needs_scores(row: dict[str, Any], name: str, message: str) -> None:
    with pytest.raises(BadRow, match=message):
        convert(row, name, source_of("r", min_margin=1))
    if "score_chosen" in row:
        assert convert(row, name, PLAIN).unused >= {"score_chosen"}


def test_scores_have_other_names_too() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "chosen-rating": 5, "rejected_score": 1, "mine": 3}
    assert convert(row, "preference", source_of("r", min_margin=4)).unused == {"mine"}
    with pytest.raises(Unwanted):
        convert(row, "preference", source_of("r", min_margin=4, columns={"score_chosen": "mine"}))


def test_llamafactorys_pairs_are_read() -> None:
    row = {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"},
    }  # fmt: skip
    assert detect(row, "dpo") == "preference" and pair(row, "preference") == ("good", "bad")


def test_a_column_may_be_made_of_several() -> None:
    columns = {"instruction": "{title}\n{question}", "output": "a"}
    source = source_of("r", columns=columns)
    row = {"title": "Bonds", "question": "What {is} one?", "a": "A loan.", "id": 7}
    found = convert(row, "alpaca", source)
    assert found.row["messages"][0]["content"] == "Bonds\nWhat {is} one?" and found.unused == {"id"}
    assert detect(row, "sft", columns) == "alpaca"
    assert convert({**row, "title": None}, "alpaca", source).row["messages"][0]["content"] == "\nWhat {is} one?"
    with pytest.raises(BadRow, match="no column 'title'; it has question, a"):
        convert({"question": "q", "a": "x"}, "alpaca", source)
    with pytest.raises(BadRow, match="instruction and input are empty"):
        convert({**row, "title": "", "question": None}, "alpaca", source)
    with pytest.raises(BadRow, match="column 'title' is list"):
        convert({**row, "title": ["x"]}, "alpaca", source)
    named = source_of("r", columns={"prompt": "{q}", "response": "a"})
    assert convert({"{q}": "odd name", "a": "x"}, "prompt_response", named).row["messages"][0]["content"] == "odd name"
