"""Longest common subsequences in bit-parallel form: long texts cost milliseconds, and no recursion can overflow.

After each word of the one text, the bits of an integer say how the length grows along the other (Hyyrö, "Bit-parallel
LCS-length computation revisited", 2004).
"""

from __future__ import annotations

from collections.abc import Sequence


def _rows(x: Sequence[str], y: Sequence[str]) -> list[int]:
    """For each i: an integer whose bit j is 0 where LCS(x[:i], y[:j + 1]) is one more than LCS(x[:i], y[:j])."""
    full = (1 << len(y)) - 1
    places: dict[str, int] = {}
    for j, word in enumerate(y):
        places[word] = places.get(word, 0) | (1 << j)
    row, rows = full, [full]
    for word in x:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
        rows.append(row)
    return rows


def lcs_length(x: Sequence[str], y: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    return len(y) - _rows(x, y)[-1].bit_count()


def lcs_words(x: Sequence[str], y: Sequence[str]) -> set[str]:
    """The distinct words of one longest common subsequence: of several, the one that the package `rouge` finds.

    https://github.com/pltrdy/rouge/blob/1.0.1/rouge/rouge_score.py, `_recon_lcs`: from the end, a match is taken; else
    x is shortened only where that keeps strictly more than shortening y.
    """
    rows = _rows(x, y)

    def length(i: int, j: int) -> int:
        return j - (rows[i] & ((1 << j) - 1)).bit_count()

    i, j, found = len(x), len(y), set()
    while i and j:
        if x[i - 1] == y[j - 1]:
            found.add(x[i - 1])
            i, j = i - 1, j - 1
        elif length(i - 1, j) > length(i, j - 1):
            i -= 1
        else:
            j -= 1
    return found
