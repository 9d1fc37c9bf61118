"""Figures of a single text, which need no reference."""

from __future__ import annotations

import re

# A run of letters or digits is a word; of Chinese, Japanese and Korean, which have no spaces, each character.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def words(text: str) -> list[str]:
    """Lower-cased words of a text in any script."""
    return WORD.findall(text.lower())


def repeated_share(text: str, length: int = 4) -> float:
    """The share of word n-grams that stand in the text before already; 0 to 1, 0 for a text too short to tell."""
    tokens = words(text)
    grams = [tuple(tokens[n : n + length]) for n in range(len(tokens) - length + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
