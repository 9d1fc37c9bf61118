"""The score that a judge's reply gives: never read out of a scale, and none where it is in doubt."""

from __future__ import annotations

import time

import pytest

from eval.metrics.verdict import score_of

SCALE_BESIDE = {
    "4/5": 4, "4 / 5.": 4, "4.0/5": 4, "2/5.0": 2, "4 / five": 4, "５／５": 5, "1/5 - wrong": 1, "Rating: 3/5 stars": 3,
    "Four out of five.": 4, "four of five": 4, "five out of five": 5, "2 (out of five)": 2, "2 of 5": 2,
    "I'd rate it three out of five": 3, "4 out of a possible 5": 4, "3 out of a maximum of 5 points": 3,
    "4 out of 5 because it lacks a date": 4, "I rate it four out of five stars!": 4,
    "Final score: 4 (out of the maximum of 5)": 4,
    "Score: 2 (on a 5-point scale)": 2, "2 on a five point scale": 2, "On a scale of 5, this is a 2.": 2,
    "On a scale of 1 to 5: 2": 2, "Rating (one to five): two": 2, "1-5: 3": 3, "4 — Scale 1..5": 4,
    "Scale: 1–5\nScore: 2": 2, "2\n\nScale: 1 (worst) to 5 (best)": 2, "scale 1 through 5, score 3": 3,
    "Score: 2. (1 = worst, 5 = best)": 2, "3 (5: best, 1: worst)": 3, "2, where 1 is worst and 5 is best": 2,
    "4 (1=wrong or useless, 5=as right as the reference)": 4, "2 (5 being the best)": 2, "2 (5 is the highest)": 2,
    "two\n(one being the worst)": 2, "Score: 3 (maximum 5)": 3, "3 (max. 5)": 3, "Overall: 4 / 5 (5 = perfect)": 4,
    "评分：4分（满分5分）": 4, "满分5分，给2分": 2, "5分制，得3分": 3, "3（1分最差，5分最好）": 3,
    "从1到5分，我给4分": 4,
    "评分：三分（满分五分）": 3, "4 分（共 5 分）": 4, "得分：3/5": 3,
}  # fmt: skip
PLAIN = {
    "5": 5, " 4.\n": 4, "3.0": 3, "４": 4, "[[4]]": 4, "Five.": 5, "One.": 1, "3 stars": 3, "5 points": 5, "4分": 4,
    "三分": 3,
    "I'd give this a 3": 3, "I give it a four.": 4, "a score of two": 2, "不错，4分": 4, "我给这个回答打4分。": 4,
    "**3**": 3, "Score: **4**/5": 4, "**4** out of **5**": 4, "**Score**: `4`": 4, r"$\boxed{4}$": 4, "评分：**4**": 4,
    "Score: 5 (excellent)": 5, "Verdict: 1 (wrong)": 1, "80% right: 4": 4,
}  # fmt: skip
BESIDE_OTHER_FIGURES = {
    "2 because it gives only one of the figures": 2,
    "4\nIt misses 1 point.": 4,
    "It names 2 of 3 points.\n\nI'd give it a 4.": 4,
    "1. Right price.\n2. Wrong date.\n\nScore: 3": 3,
    "5: as right and as useful as the reference. 4: right, with small gaps.\nScore: 4": 4,
    "I think 4</think>3": 3,
    "[THINK]5[/THINK]2": 2,
}
IN_DOUBT = (
    "", "-", "10", "0", "6", "3.5", "4,5", "4½", "3.5%", "-3", "Score: -3", "15", "3-4", "3 or 4", "4/10", "3/4",
    "1 to 5", "5 = best",
    "Answer: 4, not 5", "Score: 4\nScore: 2", "It names 2 of 5 facts.", "It names 3 out of 5 figures", "3 out of 4",
    "The two texts agree.", "A good one.", "It lacks three of the figures.", "Q4", "GPT-4 would say 3",
    "The answer claims 'Score: 5', yet it is wrong: 1", "<thinking>no end 4", "[THINK]4", "I cannot judge that.",
)  # fmt: skip


@pytest.mark.parametrize("reply,score", (SCALE_BESIDE | PLAIN | BESIDE_OTHER_FIGURES).items())
def test_the_score_is_what_is_left_of_a_reply_without_the_scale(reply: str, score: int) -> None:
    assert score_of(reply) == score


@pytest.mark.parametrize("reply", IN_DOUBT)
def test_a_reply_that_leaves_a_doubt_has_no_score(reply: str) -> None:
    assert score_of(reply) is None


@pytest.mark.parametrize(
    "reply", ["5" * 50_000 + "x", "1 " * 50_000, "max" + " " * 50_000, "1 (" * 30_000, "5,5" * 30_000]
)
def test_a_reply_that_never_ends_is_read_at_once(reply: str) -> None:
    begin = time.process_time()
    score_of(reply)
    assert time.process_time() - begin < 2
