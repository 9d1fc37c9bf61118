"""A command of a shell script as words: quotes, variables and sums of numbers are worked out, and nothing is run."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping

from recipes.errors import UserError
from recipes.formula import evaluate

_ASSIGNED = re.compile(r"\s*(?:export\s+)?(\w+)=(.*)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^{}]*))?\}|\$(\w+)")
_SUM = re.compile(r"\$\(\((.*?)\)\)")
DEEP = 20  # variables within the defaults of variables


def command(text: str, names: Iterable[str]) -> list[str]:
    """The words of the line that holds one of `names`, with the variables of the lines before, and else of the
    environment, put in. A variable without a value stays as it is written, and so does `$(…)`.

    Raises:
        UserError: a quotation mark that no other follows.
    """
    lines = re.sub(r"\\\s*\n", " ", text).splitlines()
    at = next((n for n, line in enumerate(lines) if any(name in line for name in names)), 0)
    known: dict[str, str] = {}
    for line in lines[:at]:
        found = _ASSIGNED.match(line)
        try:
            words = _words(found[2]) if found else []
        except ValueError:  # a text of several lines
            continue
        if found and words:
            known[found[1]] = _put(words[0], known)
    try:
        return [_put(word, known) for word in _words(lines[at] if lines else "")]
    except ValueError as error:
        raise UserError(f"its command line cannot be read: {error}") from None


def _words(line: str) -> list[str]:
    """Words without their quotes; a sum is one word, and its names are variables."""

    def joined(match: re.Match[str]) -> str:
        named = re.sub(r"(?<![\w${])([A-Za-z_]\w*)", r"${\1}", match[1])
        return f"$(({re.sub(r'[ ]+', '', named)}))"

    return shlex.split(_SUM.sub(joined, line), comments=True)


def _put(word: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, other = match[1] or match[3], match[2]
        return known.get(name) or os.environ.get(name) or (match[0] if other is None else other.strip("\"'"))

    def number(match: re.Match[str]) -> str:
        if not re.fullmatch(r"[\d()+*/-]+", match[1]):
            return match[0]
        found = evaluate(match[1], {})
        return match[0] if found is None else str(int(found))

    for _ in range(DEEP):
        before, word = word, _VARIABLE.sub(value, word)
        if word == before:
            break
    return _SUM.sub(number, word)
