"""A command of a shell script as words: quotes, variables and sums of numbers are worked out, and nothing is run."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

from recipes.errors import UserError
from recipes.formula import evaluate

_ASSIGNED = re.compile(r"\s*(?:export\s+)?(\w+)=(.*)")
_LIST_BEGINS = re.compile(r"\s*(?:declare\s+-a\s+)?\w+\+?=\(")
_LISTED = re.compile(r"\s*(?:declare\s+-a\s+)?(\w+)(\+?)=\((.*)\)[^()]*", re.DOTALL)
_ARRAY = re.compile(r"\$\{(\w+)\[[@*]\]\}")
_BEGINS = re.compile(r"\s*(?:(?:if|case|for|while|until)\b|(?:function\s+)?\w+\s*\(\)\s*\{)")
_ENDS = re.compile(r"(?:^\s*|;\s*)(?:fi|esac|done|\})\b|^\s*\}")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^{}]*))?\}|\$(\w+)")
_SUM = re.compile(r"\$\(\((.*?)\)\)")
DEEP = 20  # variables within the defaults of variables


def command(text: str, names: Iterable[str]) -> list[str]:
    """The words of the line that holds one of `names`, with the variables and arrays of the lines before, and else
    variables of the environment, put in. One without a value stays as it is written, and so does `$(…)`. Nothing says
    whether a script goes into a branch, a loop or a function: what is set there is no value, and stands at the end.

    Raises:
        UserError: a quotation mark that no other follows.
    """
    lines = list(_lines(text))
    at = next((n for n, line in enumerate(lines) if any(name in line for name in names) and line.lstrip()[0] != "#"), 0)
    known: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    deep, unsure = 0, set[str]()
    for line in lines[:at]:
        deep = max(0, deep + bool(_BEGINS.match(line)) - bool(_ENDS.search(line)))
        found, listed = _ASSIGNED.match(line), _LISTED.match(line)
        if deep:
            unsure |= {match[1] for match in (listed, found) if match}
            continue
        try:
            words = _words(listed[3] if listed else found[2] if found else "")
        except ValueError:  # a text of several lines
            continue
        if listed:
            before = lists.get(listed[1], []) if listed[2] else []
            lists[listed[1]] = before + _filled(words, known, lists)
        elif found and words:
            unsure.discard(found[1])
            known[found[1]] = _put(words[0], known)
    try:
        words = _filled(_words(lines[at] if lines else ""), known, lists)
        return words + [f"${name}" for name in sorted(unsure) if name in lists or known.get(name)]
    except ValueError as error:
        raise UserError(f"its command line cannot be read: {error}") from None


def _lines(text: str) -> Iterator[str]:
    """The lines of a script, those of an array and those that a backslash joins as one."""
    begun: list[str] = []
    for line in re.sub(r"\\\s*\n", " ", text).splitlines():
        begun.append(line)
        plain = re.sub(r"'[^']*'|\"[^\"]*\"|(?:^|\s)#.*", "", "\n".join(begun), flags=re.MULTILINE)
        if not (_LIST_BEGINS.match(plain) and plain.count("(") > plain.count(")")):
            yield "\n".join(begun)
            begun = []
    yield from begun


def _filled(words: Iterable[str], known: Mapping[str, str], lists: Mapping[str, list[str]]) -> list[str]:
    """Words with arrays and variables put in; a variable alone may be several words."""
    found: list[str] = []
    for word in words:
        array, alone = _ARRAY.fullmatch(word), _VARIABLE.fullmatch(word)
        if array and array[1] in lists:
            found += lists[array[1]]
        else:
            found += _put(word, known).split() if alone else [_put(word, known)]
    return found


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
