"""Plain measures of a reply against a reference answer: deterministic, for any script, and minding figures.

Each is from 0 to 1. They say how near a reply is to what an expert wrote, and cannot say whether a reply that differs
is right: for that, read the replies or ask a judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from eval.metrics.text import repeated_share
from recipes.figures import figures
from recipes.rouge import words

SENTENCE_END = re.compile(r"[.!?。！？]+(?:\s|$)|[。！？]|\n+")
LIST_LINE = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
# Words that carry no content; the list is short on purpose: it only has to take out the commonest.
COMMON = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "if", "in", "is", "it", "its", "not",
    "of", "on", "or", "so", "than", "that", "the", "their", "then", "this", "to", "was", "were", "will", "with", "you",
    "your", "的", "了", "是", "在", "和", "与", "也", "就", "都", "而", "及", "或", "一",
})  # fmt: skip


def style(prediction: str, reference: str) -> float:
    """How alike the form is: the mean of min/max over length, sentence length, and shares of figures, lists, marks.

    A feature that neither text has counts as equal.
    """
    if not prediction.strip() or not reference.strip():
        return 0.0
    pairs = [(feature(prediction), feature(reference)) for feature in FEATURES]
    return sum(min(p) / max(p) if max(p) else 1.0 for p in pairs) / len(pairs)


def _length(text: str) -> float:
    return float(len(words(text)))


def _sentence_length(text: str) -> float:
    sentences = [part for part in SENTENCE_END.split(text) if part and part.strip()]
    return len(words(text)) / max(1, len(sentences))


def _figures(text: str) -> float:
    return len(figures(text)) / max(1, len(words(text)))


def _lists(text: str) -> float:
    return len(LIST_LINE.findall(text)) / max(1, len(text.splitlines()))


def _marks(text: str) -> float:
    return sum(not c.isalnum() and not c.isspace() for c in text) / max(1, len(text))


FEATURES: tuple[Callable[[str], float], ...] = (_length, _sentence_length, _figures, _lists, _marks)


def coverage(prediction: str, reference: str) -> float:
    """The share of the reference's distinct content words that the reply has."""
    wanted = set(words(reference)) - COMMON
    return len(wanted & set(words(prediction))) / len(wanted) if wanted else 0.0


def numbers(prediction: str, reference: str) -> float | None:
    """The share of the reference's figures that the reply has, as values (1,000 = 1000.0); None where it has none.

    A sign and a magnitude are part of a value: '-5 %' is not '5 %', and '1.2 million' is 1,200,000.
    """
    wanted = set(figures(reference))
    return len(wanted & set(figures(prediction))) / len(wanted) if wanted else None


def usefulness(prediction: str, reference: str, finished: bool) -> float:
    """What a reader gets: content covered (figures count as half where there are any), less what is said over again.

    (coverage, or its mean with `numbers`) × (1 − repeated 4-grams) × (1, or 0.8 for a reply that was cut off).
    """
    covered, figures = coverage(prediction, reference), numbers(prediction, reference)
    content = covered if figures is None else (covered + figures) / 2
    return content * (1 - repeated_share(prediction)) * (1.0 if finished else 0.8)
