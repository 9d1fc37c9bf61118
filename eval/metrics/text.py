"""Figures of a single text, which need no reference."""

from __future__ import annotations

from recipes.rouge import words


def repeated_share(text: str, length: int = 4) -> float:
    """The share of word n-grams that stand in the text before already; 0 to 1, 0 for a text too short to tell."""
    tokens = words(text)
    grams = [tuple(tokens[n : n + length]) for n in range(len(tokens) - length + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
