"""What is told beside the counts of rows: complaints, equal ones folded."""

from __future__ import annotations

import re
from collections import Counter

KINDS = 20
ROWS = 10_000  # so many bad rows are enough to know; a hub's data set is not read to its end for more


class Complaints:
    """What is wrong with rows: of equal complaints the first, and how many more there are."""

    def __init__(self) -> None:
        self.rows = 0
        self._first: dict[str, str] = {}
        self._more: Counter[str] = Counter()
        self._others = 0

    def add(self, place: str, text: str) -> None:
        self.rows += 1
        kind = kind_of(text)
        if kind in self._first:
            self._more[kind] += 1
        elif len(self._first) < KINDS:
            self._first[kind] = printable(f"{place}: {text}")
        else:
            self._others += 1

    @property
    def full(self) -> bool:
        return self.rows >= ROWS

    def lines(self) -> list[str]:
        found = [text + self._also(kind) for kind, text in self._first.items()]
        if self._others:
            found.append(f"… and {self._others:,} rows with other mistakes")
        return [*found, f"stopped at {self.rows:,} rows that cannot be used"] if self.full else found

    def _also(self, kind: str) -> str:
        count = self._more[kind]
        return f" … and {count:,} more row{'s' if count > 1 else ''} like this" if count else ""


def kind_of(text: str) -> str:
    """A complaint without its numbers, which differ from row to row."""
    return printable(re.sub(r"\d[\d,]*", "N", text))


def printable(text: str) -> str:
    """A row may hold half of a UTF-16 pair, which no file or terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
