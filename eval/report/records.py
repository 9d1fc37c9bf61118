"""The records behind numbers, checked as they are read: what each sample asked, was answered and scored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eval.hashes import file_hash
from eval.rows import LARGEST, Row, is_number, not_turns, read_lines
from eval.suites import MODULES, Values, suite
from recipes.errors import Problem, UserError
from recipes.suites import LM_EVAL, suites_of

TEXTS = ("reference", "output", "pred", "question", "query", "input")
LOSSES = ("chosen_loss", "rejected_loss")  # which are shown where there is no reply
LEAST = 1 / LARGEST  # of a weight that is divided by


def read_records(file: Path, name: str, metrics: Iterable[str], expected: str) -> list[Row]:
    """A suite's records, each with an id of its own, texts to read, and numbers where values and their weights stand.

    Of two records of one id only one would count.

    Args:
        metrics: those of the results.
        expected: the file's hash by the results; empty where they do not say.

    Raises:
        UserError: the records are of another evaluation; or with file and line, where a record is none.
    """
    if expected and expected != file_hash(file):
        text = "not the records of the numbers in results.json: an evaluation was killed, or the file was changed"
        raise UserError(f"{file}: {text}; `recipe eval` with the suite {name} writes both anew")
    known = [metric for metric in metrics if name.partition(":")[0] in MODULES and name in suites_of(metric)]
    found = {values for metric in known if (values := suite(name).values(metric))}
    prompts = (str, list) if name.startswith(LM_EVAL) else (list,)
    first: dict[str, int] = {}
    lines = read_lines(file)
    for number, row in lines:
        own = row.get("id")
        if not isinstance(own, str):
            problem = f"id is {_shown(own)}, not the text that names the sample"
        elif first.setdefault(own, number) != number:
            problem = f"id {own!r} stands twice, first in line {first[own]}"
        else:
            problem = _not_read(row, prompts) or ("" if "error" in row else _not_scored(row, found))
        if problem:
            raise UserError(Problem(file=str(file), line=number, text=f"{problem}; `recipe eval` writes it anew"))
    return [row for _, row in lines]


def _not_read(row: Row, prompts: tuple[type, ...]) -> str:
    """What of a record cannot be shown beside others; "" where all can."""
    for key in TEXTS:
        if not isinstance(row.get(key), str | None):
            return f"{key} is {_shown(row[key])}, not a text"
    prompt = row.get("prompt", [])
    if not isinstance(prompt, prompts) or (prompt and isinstance(prompt, list) and not_turns("prompt", prompt)):
        return f"prompt is {_shown(prompt)}, not what a model is asked"
    return ""


def _not_scored(row: Row, found: Iterable[Values]) -> str:
    """Which of a record's values, and of their weights, is no number; "" where all are, or are not there."""
    scored = [values for values in found if row.get(values.key) is not None]
    weights = {values.weight for values in scored if values.weight}
    keys = weights | {values.key for values in scored} | {key for key in LOSSES if key in row}
    if wrong := next((key for key in sorted(keys) if not is_number(row.get(key))), ""):
        return f"{wrong} is {_shown(row.get(wrong))}, not a number"
    wrong = next((key for key in sorted(weights) if row[key] != 0 and row[key] < LEAST), "")
    return wrong and f"{wrong} is {_shown(row[wrong])}, not a count"


def _shown(value: object) -> str:
    return repr(value)[:60]
