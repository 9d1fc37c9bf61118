"""ROUGE over words of any script: rouge_score's numbers where that can read, and the same everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.reference import coverage
from eval.suites.reference import METRICS
from recipes import rewards
from recipes.rouge import of_another_script, rouge_l, rouge_n, words
from recipes.types import Reward

rouge_scorer = pytest.importorskip("rouge_score_rs.rouge_scorer")
OFFICIAL = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)

ASCII = st.one_of(
    st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=40),
    st.lists(st.sampled_from(["a", "B", "cat", "the", "snake_case", "3.5%", "don't", "\n"]), max_size=14).map(" ".join),
)


@given(ASCII, ASCII)
def test_of_ascii_text_every_value_is_that_of_rouge_score(prediction: str, reference: str) -> None:
    """To the last digit; rouge-score-rs equals rouge_score 0.1.2 (tests/real/test_eval_suites.py)."""
    official = {name: score.fmeasure for name, score in OFFICIAL.score(reference, prediction).items()}
    assert rouge_l(prediction, reference) == official["rougeL"]
    assert rouge_n(prediction, reference, 1) == official["rouge1"]
    assert rouge_n(prediction, reference, 2) == official["rouge2"]


def _transliterated(text: str) -> str:
    """Each small letter as a Chinese character, which is a word of its own."""
    return "".join(chr(0x4E00 + ord(c)) for c in text)


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_chinese_is_scored_character_by_character(prediction: str, reference: str) -> None:
    """As rouge_score scores the same with letters apart."""
    official = OFFICIAL.score(" ".join(reference), " ".join(prediction))
    mine, other = _transliterated(prediction), _transliterated(reference)
    assert rouge_l(mine, other) == official["rougeL"].fmeasure
    assert rouge_n(mine, other, 2) == official["rouge2"].fmeasure


@pytest.mark.parametrize(
    ("reply", "reference", "expected"),
    [
        ("the cat sat", "The  CAT, sat!", 1),
        ("the cat", "the cat sat on", 2 * 1 * 0.5 / 1.5),
        ("sat cat the", "the cat sat", 1 / 3),
        ("", "the cat", 0),
        ("the cat", "", 0),
        ("我喜欢北京", "我爱北京", 2 * 3 / 9),
        ("Straße", "STRASSE", 1),
        ("use snake_case here", "use snake case here", 1),
        ("ＡＢＣ", "abc", 1),
        ("police kill the gunman", "the gunman police killed", 0.5),  # rouge_score 0.1.2
        ("the gunman kill police", "police killed the gunman", 0.5),
    ],
)
def test_the_reward_and_the_suite_have_one_rouge(reply: str, reference: str, expected: float) -> None:
    (reward,) = rewards.load([Reward(type="rouge", weight=1.0, pattern=None, target=None, path=None)])
    assert reward.function(reply, reference, {}) == pytest.approx(expected)
    assert METRICS["rougeL"][0](reply, reference) == pytest.approx(expected)


def test_words_are_of_any_script() -> None:
    assert words("U.S. 债券 rise, snake_case") == ["u", "s", "债", "券", "rise", "snake", "case"]
    assert coverage("use snake_case", "snake case") == 1.0


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("债券是贷款", True),
        ("使用GPT-4模型", True),
        ("ставка", True),
        ("ＡＢＣ", False),  # of full width: folded, they are Latin
        ("für Größe", False),
        ("The word 债券 means bonds", False),
        ("42", False),
        ("", False),
        ("!?", False),
    ],
)
def test_texts_that_rouge_score_cannot_read_are_known(text: str, other: bool) -> None:
    assert of_another_script(text) == other
