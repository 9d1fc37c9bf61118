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
from eval.metrics.longbench_rows import row_problem
from eval.rows import checked, read_lines
from recipes.errors import Problem, UserError

Scores = dict[str, Any]  # subset: a percentage, or one for each bucket


def score_longbench(directory: str | Path, e: bool = False) -> Scores:
    """The official score of each `<subset>.jsonl` in a directory (rows: pred, answers, all_classes, length).

    With `e`, of each `<subset>_e.jsonl` too, as our own suite leaves LongBench-E's beside LongBench's.

    Args:
        directory: as the official `pred.py` leaves it; files of other names are left alone.
        e: score LongBench-E, in buckets by length.

    Returns:
        Percentages with two places by subset; with `e`, by bucket within a subset (None for an empty bucket).

    Raises:
        UserError: no predictions there, or malformed rows; all files are read first.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory")
    files = {path.stem: path for path in _of_subsets(directory) if e or path.stem in SUBSETS}
    if not files:
        buckets = passed_over(directory, e)
        hint = f"; {buckets}" if buckets else f"; the subsets are {', '.join(SUBSETS)}"
        raise UserError(f"{directory}: no <subset>.jsonl of LongBench{hint}")
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


def passed_over(directory: Path, e: bool) -> str:
    """What is said of files that are not scored, because they are LongBench-E's and `e` was not asked for."""
    names = [path.name for path in _of_subsets(directory) if path.stem not in SUBSETS]
    return f"not scored without --e, as LongBench-E's: {', '.join(names)}" if names and not e else ""


def _of_subsets(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.glob("*.jsonl")) if path.stem.removesuffix("_e") in SUBSETS]


def _score_file(name: str, path: Path, e: bool) -> float | dict[str, float | None] | None:
    subset = name.removesuffix("_e")
    rows = checked(path, read_lines(path), lambda row: row_problem(name, row, ("pred",), buckets=e))
    if not rows:
        raise UserError(f"{path}: no rows")
    classes = rows[-1].get("all_classes")  # the official eval.py keeps those of the last row for all
    scores = [row_score(subset, row["pred"], row["answers"], classes) for row in rows]
    if not e:
        return percentage(scores)
    names = [bucket(row["length"]) for row in rows]
    return {b: percentage([s for s, name in zip(scores, names, strict=True) if name == b]) for b in BUCKETS}


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
    if left_out := passed_over(wanted.directory, wanted.e):
        print(left_out, file=sys.stderr)
    print(json.dumps(scores) if wanted.json else "\n".join(f"{name}  {score}" for name, score in scores.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
