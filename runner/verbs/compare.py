"""`recipe compare`: evaluated runs beside each other, with paired tests and a report."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recipes.errors import UserError
from runner.verbs import options

LONGEST = 255  # bytes of a directory's name, to most file systems
EXAMPLES = ("recipe compare", "recipe compare finance_lora finance_full --no-base --output report")


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="names or directories of runs (default: all that were evaluated)")
    add("--no-base", action="store_true", help="leave the base models out")
    add("--allow-unlike", action="store_true", help="compare even what was measured differently, and say so")
    add("--output", type=options.path, help="directory for the report (default: the runs', or compare/A_vs_B in it)")
    add("--alone", action="store_true", help="take each run by itself, runs of one training with other seeds too")
    add("--json", action="store_true", help="print evaluation_results.json instead of tables")
    options.add_runs_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    import json

    from eval.report.tables import evaluation_results, make_report
    from runner.scoring.compare import entries, report_text, scored_runs, write
    from runner.scoring.seeds import named

    chosen = [run for name in arguments.runs for run in named(name, arguments.runs_dir)]
    if chosen and not arguments.alone:
        chosen = options.with_seeds(chosen)
    chosen = chosen or scored_runs(arguments.runs_dir, options.say)
    found = entries(chosen, base=not arguments.no_base)
    if arguments.alone:
        found = [replace(entry, trained_as="") for entry in found]
    if len(found) < 2:
        raise UserError(f"{len(found)} scored model in {arguments.runs_dir.resolve()}: two are needed to compare")
    report = make_report(found, unlike="show" if arguments.allow_unlike else "refuse")
    if arguments.json:
        print(json.dumps(evaluation_results(report.entries), ensure_ascii=False))
    else:
        print(report_text(report))
    write(report, arguments.output or _directory(arguments.runs, arguments.runs_dir), options.say)


def _directory(named: Sequence[str], runs_dir: Path) -> Path:
    """Where a report goes: one over the runs that are named is not written over the one over all."""
    if not named:
        return runs_dir
    names = [Path(name).name for name in named]
    name = "_vs_".join(names) if len(names) < 5 else f"{names[0]}_vs_{len(names) - 1}_others"
    return runs_dir / "compare" / _short(name, names)


def _short(name: str, names: Sequence[str]) -> str:
    """The name of a directory; one that is too long for it ends in a hash of all names."""
    written = os.fsencode(name)
    if len(written) <= LONGEST:
        return name
    digest = hashlib.sha256(os.fsencode("\0".join(names))).hexdigest()[:16]
    begin = written[: LONGEST - len(digest) - 1].decode(errors="ignore")
    return f"{begin}_{digest}"
