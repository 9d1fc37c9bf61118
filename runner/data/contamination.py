"""Training rows that hold a question or a reference of a suite by which the recipe is scored.

As GPT-3's appendix C (https://arxiv.org/abs/2005.14165) has it: texts in lower case without punctuation, a row counts
where it shares N words in a row with a text of the suite; N is the 5th percentile of the texts' lengths in words, at
least 8 and at most 13. Texts of fewer words than N are no evidence. A Chinese or Japanese character is a word.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recipes.errors import UserError
from recipes.longbench import subset_files
from recipes.words import texts_in
from runner.data.row import LIMIT, BadData

LEAST, MOST = 8, 13
# Of a suite's row: what is neither asked nor a reference.
NO_TEXT = re.compile(r"context|source|type|category|all_classes|language|dataset|_?id|length|url|role", re.IGNORECASE)
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
SUFFIXES = (".jsonl", ".json", ".csv")


def words_of(text: str) -> list[str]:
    """The words by which texts are compared."""
    return WORD.findall(text.lower())


class Scored:
    """The texts of the suites that a recipe is scored by, as runs of words."""

    def __init__(self, texts: Mapping[str, Iterable[str]]) -> None:
        self._suites: dict[tuple[str, ...], str] = {}
        for suite, found in texts.items():
            all_words = [words for text in found if (words := words_of(text))]
            lengths = sorted(map(len, all_words))
            size = min(MOST, max(LEAST, lengths[int(0.05 * len(lengths))])) if lengths else MOST
            for words in all_words:
                for start in range(len(words) - size + 1):
                    self._suites.setdefault(tuple(words[start : start + size]), suite)
        self._sizes = sorted({len(run) for run in self._suites})
        self._first = {run[0] for run in self._suites}

    def suite_in(self, row: Mapping[str, Any]) -> str:
        """A suite of which a canonical row holds a text; "" for none."""
        if not self._suites:
            return ""
        for path, text in texts_in(dict(row)):
            if path[-1] == "role":
                continue
            words = words_of(text)
            for start, word in enumerate(words):
                if word in self._first:
                    for size in self._sizes:
                        if found := self._suites.get(tuple(words[start : start + size])):
                            return found
        return ""


def read_scored(data: Mapping[str, str], subsets: tuple[str, ...]) -> Scored:
    """The texts of suites, from where their data lie.

    Args:
        data: suite name to a local file or directory.
        subsets: those of LongBench that are scored; empty for all.

    Raises:
        BadData: a file cannot be read.
    """
    return Scored({suite: list(_texts(suite, Path(path), subsets)) for suite, path in data.items()})


def not_compared(suites: Iterable[str]) -> Iterator[str]:
    """What is said of suites whose data do not lie here."""
    suites = list(suites)
    if suites:
        given = ", ".join(f"eval.data.{suite}" for suite in suites if not suite.startswith("lm_eval:"))
        how = f"; give them as {given} to have that done" if given else ""
        yield f"the training rows are not compared with the data of {', '.join(suites)}, which are not here{how}"


def _texts(suite: str, path: Path, subsets: tuple[str, ...]) -> Iterator[str]:
    for file in _files(suite, path, subsets):
        try:
            for row in _rows(file):
                yield from (text for where, text in texts_in(row) if not _is_about(where))
        except (OSError, ValueError, csv.Error, RecursionError) as error:
            raise BadData(f"{file}: cannot be compared with the training rows: {error}") from None


def _is_about(where: tuple[str | int, ...]) -> bool:
    return any(isinstance(key, str) and NO_TEXT.fullmatch(key) for key in where)


def _files(suite: str, path: Path, subsets: tuple[str, ...]) -> list[Any]:
    if suite in ("longbench", "qmsum"):
        try:
            return list(subset_files(path, ("qmsum",) if suite == "qmsum" else subsets).values())
        except UserError:
            pass  # QMSum's own files, which have other names
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    return [path]


def _rows(file: Any) -> Iterator[Any]:
    csv.field_size_limit(LIMIT)
    with file.open("rb") as stream:
        text = stream.read().decode("utf-8-sig")
    if file.name.lower().endswith(".csv"):
        yield from csv.DictReader(text.splitlines(keepends=True))
    elif file.name.lower().endswith(".json"):
        yield json.loads(text)
    else:
        yield from (json.loads(line) for line in text.split("\n") if line.strip())
