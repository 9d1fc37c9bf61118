"""Scores predictions that exist already, in the official layout: no model, no torch.

Usage: python -m eval.score DIRECTORY [--e] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from eval.metrics.longbench import BUCKETS, SUBSETS, bucket, percentage, row_score
from eval.rows import Row, read_jsonl
from recipes.errors import Problem, UserError

Scores = dict[str, Any]  # subset: a percentage, or one for each bucket


def score_longbench(directory: str | Path, e: bool = False) -> Scores:
    """The official score of each `<subset>.jsonl` in a directory (rows: pred, answers, all_classes, length).

    Args:
        directory: as the official `pred.py` leaves it; files of other names are left alone.
        e: score LongBench-E, in buckets by length.

    Returns:
        Percentages with two places by subset; with `e`, by bucket within a subset (None for an empty bucket).

    Raises:
        UserError: no predictions there, or malformed rows; all files are read first.
    """
    directory = Path(directory)
    files = {path.stem: path for path in sorted(directory.glob("*.jsonl")) if path.stem in SUBSETS}
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory")
    if not files:
        raise UserError(f"{directory}: no <subset>.jsonl of LongBench; the subsets are {', '.join(SUBSETS)}")
    problems: list[Problem | str] = []
    scores: Scores = {}
    for subset, path in files.items():
        try:
            scores[subset] = _score_file(subset, path, e)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return scores


def _score_file(subset: str, path: Path, e: bool) -> float | dict[str, float | None] | None:
    rows = read_jsonl(path)
    wrong = [(n, text) for n, row in enumerate(rows, 1) if (text := _malformed(row, e))]
    if wrong:
        raise UserError(*(Problem(file=str(path), line=n, text=text) for n, text in wrong[:5]))
    if not rows:
        raise UserError(f"{path}: no rows")
    classes = rows[-1].get("all_classes")  # the official eval.py keeps those of the last row for all
    scores = [_score_row(subset, row, classes, path, n) for n, row in enumerate(rows, 1)]
    if not e:
        return percentage(scores)
    names = [bucket(row["length"]) for row in rows]
    return {b: percentage([s for s, name in zip(scores, names, strict=True) if name == b]) for b in BUCKETS}


def _score_row(subset: str, row: Row, classes: list[str] | None, path: Path, number: int) -> float:
    try:
        return row_score(subset, row["pred"], row["answers"], classes)
    except UserError as error:
        raise UserError(Problem(file=str(path), line=number, text=str(error))) from None


def _malformed(row: Row, e: bool) -> str:
    if not isinstance(row.get("pred"), str):
        return "`pred` is not a text"
    answers = row.get("answers")
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        return "`answers` is not a list of texts"
    if e and not isinstance(row.get("length"), int | float):
        return "`length` is not a number, which LongBench-E needs"
    return ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.score", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--e", action="store_true", help="LongBench-E: one score for each bucket of length")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    wanted = parser.parse_args(arguments)
    try:
        scores = score_longbench(wanted.directory, wanted.e)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(scores) if wanted.json else "\n".join(f"{name}  {score}" for name, score in scores.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
