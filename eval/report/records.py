"""The records behind numbers, checked as they are read: what each sample asked, was answered and scored."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from eval.hashes import file_hash
from eval.rows import Row, read_lines
from eval.suites import MODULES, suite
from recipes.errors import Problem, UserError
from recipes.suites import suites_of


def read_records(file: Path, name: str, metrics: Iterable[str], expected: str) -> list[Row]:
    """A suite's records, each with an id of its own, and numbers where values and their weights stand.

    A test of NaN finds whatever it likes, and of two records of one id only one would count.

    Args:
        metrics: those of the results.
        expected: the file's hash by the results; empty where they do not say.

    Raises:
        UserError: the records are of another evaluation; or with file and line, where a record is none.
    """
    if expected and expected != file_hash(file):
        text = (
            "not the records of which results.json has the numbers: an evaluation was killed, or the file was changed"
        )
        raise UserError(f"{file}: {text}; `recipe eval` with the suite {name} writes both anew")
    known = [metric for metric in metrics if name.partition(":")[0] in MODULES and name in suites_of(metric)]
    found = [values for metric in known if (values := suite(name).values(metric))]
    keys = {key for values in found for key in (values.key, values.weight) if key}
    first: dict[str, int] = {}
    lines = read_lines(file)
    for number, row in lines:
        own = row.get("id")
        if not isinstance(own, str):
            problem = f"id is {own!r}, not the text that names the sample"
        elif first.setdefault(own, number) != number:
            problem = f"id {own!r} stands twice, first in line {first[own]}"
        else:
            wrong = next((key for key in sorted(keys) if not _is_number(row.get(key))), None)
            if wrong is None or "error" in row:
                continue
            problem = f"{wrong} is {repr(row[wrong])[:60]}, not a number"
        raise UserError(Problem(file=str(file), line=number, text=f"{problem}; `recipe eval` writes it anew"))
    return [row for _, row in lines]


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and math.isfinite(value))
