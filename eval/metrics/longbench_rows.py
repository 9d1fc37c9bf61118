"""What a row of LongBench must have to be scored: asked of the data before a model is, and of predictions made before.

A row without its classes or answers would score 0 in silence, whatever the reply.
"""

from __future__ import annotations

from typing import Any

from eval.metrics.longbench import PARAGRAPH, SUBSETS
from eval.rows import is_number, is_texts, not_texts, shown


def row_problem(name: str, row: dict[str, Any], texts: tuple[str, ...], *, buckets: bool) -> str:
    """Why a row cannot be scored; "" where it can.

    Args:
        name: the subset, with or without the `_e` of LongBench-E.
        texts: the fields that must hold a text: of the data `input` and `context`, of a prediction `pred`.
        buckets: whether it is scored by its length, as LongBench-E is.
    """
    subset = name.removesuffix("_e")
    for field in texts:
        if not isinstance(row.get(field), str):
            return f"`{field}`: expected a text, got {_given(row, field)}"
    if "answers" not in row:
        return "`answers`: expected a list of texts, but the row has none"
    if wrong := not_texts("answers", row["answers"]):
        return wrong
    classes = row.get("all_classes")
    if SUBSETS[subset] == "classification" and (not is_texts(classes) or not classes):
        return f"`all_classes`: {subset} needs a list of class names, got {_given(row, 'all_classes')}"
    length = row.get("length")
    if buckets and (isinstance(length, bool) or not is_number(length)):
        return f"`length`: LongBench-E needs a number, got {_given(row, 'length')}"
    pattern = PARAGRAPH.get(SUBSETS[subset])
    nameless = [answer for answer in row["answers"] if pattern and not pattern.search(answer)]
    if pattern and nameless:
        return f"`answers`: the reference {shown(nameless[0])} names no paragraph ({pattern.pattern})"
    return ""


def _given(row: dict[str, Any], field: str) -> str:
    return shown(row[field]) if field in row else "nothing"
