"""Formulas over metrics, such as a recipe's combined score: numbers, metric ids, + - * / and brackets; no code runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from recipes.errors import UserError
from recipes.suites import suites_of

# A minus within a name belongs to it (longbench.repobench-p): between metrics it wants blanks around it.
TOKEN = re.compile(
    r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?)|(lm_eval:\w+(?:[.:,-]\w+)*|[A-Za-z]\w*(?:[.-]\w+)*)|([-+*/()]))"
)

MAX_DEPTH = 50  # of brackets and signs


class _Reader:
    """Reads a formula by recursive descent; a missing metric, or a division by zero, makes the value None."""

    def __init__(self, formula: str, values: Mapping[str, float]) -> None:
        self.formula, self.values = formula, values
        self.tokens = _tokens(formula)
        self.names = [token for token in self.tokens if token[0].isalpha()]
        self.place = self.depth = 0

    def read(self) -> float | None:
        value = self._sum()
        if self.place != len(self.tokens):
            raise self._wrong()
        return value

    def _sum(self) -> float | None:
        value = self._product()
        while self._next() in ("+", "-"):
            sign, other = self._take(), self._product()
            value = None if value is None or other is None else value + other if sign == "+" else value - other
        return value

    def _product(self) -> float | None:
        value = self._single()
        while self._next() in ("*", "/"):
            sign, other = self._take(), self._single()
            if value is None or other is None or (sign == "/" and other == 0):
                value = None
            else:
                value = value * other if sign == "*" else value / other
        return value

    def _single(self) -> float | None:
        token = self._next()
        if token in ("", ")", "*", "/", "+"):
            raise self._wrong()
        self._take()
        if token in ("-", "("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise UserError(f"formula {_short(self.formula)}: nested more than {MAX_DEPTH} levels deep")
            value = self._single() if token == "-" else self._sum()
            self.depth -= 1
            if token == "(" and self._take() != ")":
                raise self._wrong()
            return -value if token == "-" and value is not None else value
        return float(token) if token[0].isdigit() else self.values.get(token)

    def _next(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self.place += 1
        return token

    def _wrong(self) -> UserError:
        near = " ".join(self.tokens[self.place : self.place + 3]) or "its end"
        return UserError(
            f"formula {_short(self.formula)}: not understood at {near!r}; metric ids, numbers, + - * / ( )"
        )


def _short(formula: str) -> str:
    return repr(formula if len(formula) <= 200 else formula[:199] + "…")


def _tokens(formula: str) -> list[str]:
    tokens, place, text = [], 0, formula.rstrip()
    while place < len(text):
        found = TOKEN.match(text, place)
        if not found:
            raise UserError(f"formula {_short(formula)}: not understood at {text[place:].strip()[:20]!r}")
        tokens.append(str(found.group(found.lastindex or 0)))
        place = found.end()
    return tokens


def evaluate(formula: str, values: Mapping[str, float]) -> float | None:
    """The value of a formula over values by metric id; None where a part is missing.

    Raises:
        UserError: it is no formula.
    """
    value = _Reader(formula, values).read()
    return value if value is not None and math.isfinite(value) else None


def names(formula: str) -> list[str]:
    """The metric ids in a formula.

    Raises:
        UserError: it is no formula.
    """
    reader = _Reader(formula, {})
    reader.read()
    return list(dict.fromkeys(reader.names))


# Of the scripts that train on LongBench; a run without these suites is judged by its loss.
COMBINED = ("truthfulqa.accuracy", "qmsum.rougeL", "truthfulqa.avg_max_score")


def default_formula(suites: Iterable[str]) -> str:
    """The combined score of a recipe that names none; every run of the same suites has the same."""
    found = [metric for metric in COMBINED if set(suites_of(metric)) & set(suites)]
    return " + ".join(found) or "-perplexity"
