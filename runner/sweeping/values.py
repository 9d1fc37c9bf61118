"""What a sweep varies: fields of the recipe and their values, as the command line gives them."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes import UserError, schema
from recipes.hints import hint
from recipes.yaml_text import parse_value

SAID = ("name", "description", "logging")  # no weight follows from these
LAST = re.compile(r"(?P<low>[^:]+?)\.\.(?P<high>[^:]+?)(?P<log>:log)?")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A field and the values that are tried."""

    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Range:
    """A field and the bounds of its values, both among them; whole numbers where both bounds are."""

    field: str
    low: int | float
    high: int | float
    log: bool

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Values = Mapping[str, Any]  # of one trial, by field


def grid(text: str) -> Grid:
    """`FIELD=V1,V2`; each value is read as `--set` reads it.

    Raises:
        UserError: no such field, no values, or one twice.
    """
    field, given = _split("--grid", text, "training.learning_rate=1e-4,2e-4")
    values = parse_value(f"[{given}]")
    if not isinstance(values, list) or not values:
        raise UserError(f"--grid {text}: give values with commas between, such as {field}=1,2")
    shown = [json.dumps(_whole(value), sort_keys=True) for value in values]
    twice = next((value for n, value in enumerate(shown) if value in shown[:n]), None)
    if twice is not None:
        raise UserError(f"--grid {text}: {twice} stands there twice")
    return Grid(field=field, values=tuple(values))


def _whole(value: Any) -> Any:
    """8.0 is 8."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def bounds(text: str) -> Range:
    """`FIELD=LOW..HIGH` or `FIELD=LOW..HIGH:log`.

    Raises:
        UserError: no such field, or no range.
    """
    field, given = _split("--range", text, "training.learning_rate=1e-5..1e-3:log")
    found = LAST.fullmatch(given)
    low: Any = parse_value(found["low"]) if found else None
    high: Any = parse_value(found["high"]) if found else None
    if not found or not _number(low) or not _number(high):
        raise UserError(f"--range {text}: write it as {field}=LOW..HIGH, two numbers, and :log for a logarithmic one")
    if not low < high:
        raise UserError(f"--range {text}: {low} is not below {high}")
    if found["log"] and low <= 0:
        raise UserError(f"--range {text}: a logarithmic range begins above 0")
    return Range(field=field, low=low, high=high, log=bool(found["log"]))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _split(option: str, text: str, example: str) -> tuple[str, str]:
    field, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not field or not given:
        raise UserError(f"{option} {text}: write it as field=values, such as {example}")
    leaves = schema.leaves()
    plain = re.sub(r"\[\d+\]", "[]", field)
    known = any(plain == leaf or plain.startswith((f"{leaf}.", f"{leaf}[")) for leaf in leaves)
    if not known:
        near = hint(plain.rpartition(".")[2], leaves, leaves) or "; `recipe schema` has them all"
        raise UserError(f"{option} {text}: {field} is no field of a recipe{near}")
    if plain in SAID:
        raise UserError(f"{option} {text}: nothing that is trained follows from {field}")
    return field, given


def check_fields(grids: Sequence[Grid], ranges: Sequence[Range], overrides: Sequence[str] = ()) -> None:
    """Raises UserError where nothing is varied, or a field twice, or one that an override sets."""
    fields = [*(one.field for one in grids), *(one.field for one in ranges)]
    if not fields:
        raise UserError("nothing is varied: give --grid FIELD=V1,V2, or --trials N with --range FIELD=LOW..HIGH")
    twice = next((field for n, field in enumerate(fields) if field in fields[:n]), None)
    if twice:
        raise UserError(f"{twice} is varied twice; give all its values in one --grid or --range")
    fixed = next((one for one in overrides if one.partition("=")[0].strip() in fields), None)
    if fixed:
        raise UserError(f"--set {fixed}: the field is varied; keep the one or the other")


def combinations(grids: Sequence[Grid]) -> Iterator[Values]:
    """All of a full grid, the last field varying first."""
    for chosen in itertools.product(*(one.values for one in grids)):
        yield dict(zip((one.field for one in grids), chosen, strict=True))


def corners(grids: Sequence[Grid], ranges: Sequence[Range], most: int) -> Iterator[Values]:
    """What a search is checked by: every value of the grids with the ends of the ranges, in all combinations.

    Where that would be more than `most`, each value in turn with the first of the others.
    """
    each = [*grids, *(Grid(field=one.field, values=(one.low, one.high)) for one in ranges)]
    if math.prod(len(one.values) for one in each) <= most:
        yield from combinations(each)
        return
    first = {one.field: one.values[0] for one in each}
    for one in each:
        for value in one.values:
            yield {**first, one.field: value}


def overrides(values: Values) -> list[str]:
    """The values as `--set` takes them."""
    return [f"{field}={json.dumps(value, ensure_ascii=False)}" for field, value in values.items()]


def told(values: Values) -> str:
    """`training.learning_rate=0.0001, tuning.rank=8`."""
    return ", ".join(f"{field}={shown(value)}" for field, value in values.items())


def shown(value: Any) -> str:
    """A value for a table: numbers in at most four digits."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
