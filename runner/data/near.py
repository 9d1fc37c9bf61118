"""Rows that say nearly what one before them says: `data.dedup: near`.

Two rows are near where their word 5-grams overlap by the threshold (Jaccard), and those of what is learned of them too:
one long document with two questions is two rows. MinHash (Broder 1997, by datasketch) only proposes the rows that are
compared, so none is left out whose overlap is smaller; one of just the threshold is found in 99 of 100 cases.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from zlib import crc32

from recipes.errors import UserError
from recipes.words import texts_in
from runner.data.contamination import words_of

GRAM = 5  # words
PERMUTATIONS = 64
BATCH = 1 << 14  # 5-grams
FOUND = 0.99  # of the pairs that overlap by just the threshold
LEARNED = ("chosen", "rejected", "completion", "answer", "text")
NO_TEXT = ("role", "id", "tool_call_id", "type")

Grams: TypeAlias = "array[int]"  # different 5-grams by their checksums: 4 bytes each


class Near:
    """The rows so far, found again by what is near to them. Memory grows with them, by about 4 KB a row.

    Raises:
        UserError: datasketch is not installed here, as it is in the locked environments.
    """

    def __init__(self, threshold: float) -> None:
        try:
            from datasketch import MinHash
        except ModuleNotFoundError:
            raise UserError(
                "data.dedup: near needs the package datasketch, which this environment lacks; add it there, or set "
                "data.dedup: exact"
            ) from None
        self.threshold = threshold
        self.in_band = band_length(threshold)
        self._empty = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
        self._rows: list[tuple[Grams, Grams]] = []
        self._bands: dict[int, tuple[int, ...]] = {}  # the rows that agree in a band of their signatures

    def seen(self, row: Mapping[str, Any]) -> bool:
        """Whether a canonical row is near to one before it; else it is remembered."""
        every, learned = grams_of(row)
        keys = list(self._keys(every))
        for number in sorted({number for key in keys for number in self._bands.get(key, ())}):
            other, other_learned = self._rows[number]
            if jaccard(every, other) >= self.threshold and jaccard(learned, other_learned) >= self.threshold:
                return True
        for key in keys:
            self._bands[key] = (*self._bands.get(key, ()), len(self._rows))
        self._rows.append((every, learned))
        return False

    def _keys(self, grams: Grams) -> Iterator[int]:
        signature = self._empty.copy()
        for start in range(0, len(grams), BATCH):  # all permutations of a whole book would be a gigabyte
            signature.update_batch(grams[start : start + BATCH])
        values = signature.hashvalues
        for start in range(0, len(values) - self.in_band + 1, self.in_band):
            yield hash((start, values[start : start + self.in_band].tobytes()))


def band_length(threshold: float) -> int:
    """Values of a signature that must agree: the most with which pairs of just the threshold are still found."""
    for length in range(PERMUTATIONS, 1, -1):
        missed = (1 - threshold**length) ** (PERMUTATIONS // length)
        if 1 - missed >= FOUND:
            return length
    return 1


def grams_of(row: Mapping[str, Any]) -> tuple[Grams, Grams]:
    """The 5-grams of a canonical row, and those of what is learned of it."""
    asked, learned = list[str](), list[str]()
    for path, text in texts_in(dict(row)):
        if path[-1] in NO_TEXT:
            continue
        of_reply = path[0] in LEARNED or (path[0] == "messages" and row["messages"][path[1]]["role"] == "assistant")
        # A reply of nothing but signs is a word.
        (learned if of_reply else asked).extend(words_of(text) or text.split())
    label = f"{row['label']} " if "label" in row else ""  # the same reply as a good and as a bad example
    learned_grams = set(_grams(learned, label))
    return array("I", sorted({*_grams(asked, ""), *learned_grams})), array("I", sorted(learned_grams))


def _grams(words: list[str], label: str) -> Iterator[int]:
    """Fewer than five words are one 5-gram."""
    for start in range(max(len(words) - GRAM, 0) + 1 if words else 0):
        yield crc32((label + " ".join(words[start : start + GRAM])).encode())


def jaccard(one: Grams, other: Grams) -> float:
    """Shared 5-grams / all 5-grams of two rows."""
    if min(len(one), len(other)) == 0:
        return float(len(one) == len(other))
    shared = len(set(one).intersection(other))
    return shared / (len(one) + len(other) - shared)
