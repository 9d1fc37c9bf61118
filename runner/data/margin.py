"""How much better the chosen reply of a pair is scored than the rejected one: `source.min_margin`."""

from __future__ import annotations

import math
from typing import Any

from recipes.encode import BadRow
from runner.data.fields import Fields
from runner.data.honoured import Unwanted, empty
from runner.data.ranked import score_margin

# As HuggingFaceH4/ultrafeedback_binarized and argilla's data sets name them.
SCORES = tuple(
    (f"score_{reply}", f"{reply}_score", f"{reply}_rating", f"{reply}-rating") for reply in ("chosen", "rejected")
)
TOO_NEAR = "scores that differ by less than min_margin"
REVERSED = "scores that prefer the rejected reply"


def hold_margin(row: Fields, format_name: str, least: float) -> None:
    """Check the scores of a pair.

    Raises:
        Unwanted: they differ by less than `least`, or the other way round.
        BadRow: the row has no such scores.
    """
    if format_name == "ranked":
        margin = score_margin(row)
    elif format_name == "preference":
        chosen, rejected = (_score(row, names) for names in SCORES)
        margin = chosen - rejected
    else:
        raise BadRow(f"min_margin is for pairs with scores (preference, ranked), and this is a row of {format_name}")
    if margin < 0:
        raise Unwanted(REVERSED)
    if margin < least:
        raise Unwanted(TOO_NEAR)


def _score(row: Fields, names: tuple[str, ...]) -> float:
    name = next((name for name in names if not empty(row.get(name))), "")
    if not name:
        raise BadRow(f"no {names[0]!r}, which min_margin compares; map yours with `columns`, or take min_margin out")
    value: Any = row[name]
    try:
        found = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise BadRow(f"{name} is {str(value)[:60]!r}, which is no number")
    return found
