"""`recipe gate`: whether a run may take the place of another, or of its base, for people and for CI."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from recipes.errors import UserError
from recipes.visible import visible
from runner.verbs import options

if TYPE_CHECKING:
    from eval.report.results import Entry

BASE = "base"  # in place of a baseline: the base model of the candidate
EXAMPLES = ("recipe gate finance_lora --baseline base", "recipe gate new --baseline old --metrics truthfulqa --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("candidate", metavar="CANDIDATE", help="name or directory of an evaluated run")
    add(
        "--baseline",
        required=True,
        metavar="RUN|base",
        help="the evaluated run that it is to replace; base: the candidate's base model",
    )
    add(
        "--metrics", default="", help="metrics or suites that count, with commas (default: all that have a better side)"
    )
    add("--margin", type=options.share, default=0.01, help="share of the baseline's mean that none may lose (0.01)")
    add("--alone", action="store_true", help="judge the two models by themselves, without the runs of other seeds")
    add("--json", action="store_true", help="print the verdict and its metrics as JSON")
    options.add_runs_dir(parser)
    parser.epilog = "Exit code 0: ship; 1: don't; 3: can't tell; 2: a mistake."


def _model(name: str, arguments: argparse.Namespace) -> Entry:
    """The run of that name, with those of other seeds as one."""
    from eval.report.seeds import units
    from runner.scoring.compare import entries
    from runner.scoring.seeds import named

    chosen = named(name, arguments.runs_dir)
    if not arguments.alone:
        return units(entries(options.with_seeds(chosen), base=False))[0]
    if len(chosen) > 1:
        raise UserError(f"--alone: {name} is {len(chosen)} runs; name one: {', '.join(run.name for run in chosen)}")
    return replace(entries(chosen, base=False)[0], trained_as="")


def _base(name: str, arguments: argparse.Namespace) -> Entry:
    from runner.scoring.compare import entries
    from runner.scoring.seeds import named

    run = named(name, arguments.runs_dir)[0]
    found = entries([run])
    if len(found) < 2:
        raise UserError(f"{run.name} was scored without its base model: `recipe eval {run.name}`")
    return found[0]


def _tell_of_base(arguments: argparse.Namespace) -> None:
    """Say that a run named `base` is not what the baseline `base` is, and how it can be named."""
    from runner.runs.rundir import find

    with contextlib.suppress(UserError):
        other = find(BASE, arguments.runs_dir)
        text = f"--baseline {BASE} is the base model of {arguments.candidate}, not the run {other.path}"
        options.say(f"{text}; give its directory to compare with that")


def run(arguments: argparse.Namespace) -> int:
    import json

    from eval.report.gate import CODES, gate
    from recipes.typed import to_json
    from runner.runs.show import table

    candidate = _model(arguments.candidate, arguments)
    if arguments.baseline == BASE:
        _tell_of_base(arguments)
        baseline = _base(arguments.candidate, arguments)
    else:
        baseline = _model(arguments.baseline, arguments)
        several = candidate.members or baseline.members or candidate.seed != baseline.seed
        if several and candidate.trained_as and candidate.trained_as == baseline.trained_as:
            raise UserError(
                f"{arguments.candidate} and {arguments.baseline} are one training with different seeds: what differs "
                "is the seeds' doing; --alone judges the two models all the same"
            )
    wanted = [name for name in arguments.metrics.split(",") if name]
    result = gate(baseline, candidate, margin=arguments.margin, metrics=wanted)
    if arguments.json:
        print(json.dumps(to_json(result), ensure_ascii=False))
    else:
        rows = [
            (one.metric, one.state, str(one.n), f"{one.difference:+.4g}", f"[{one.low:+.4g}, {one.high:+.4g}]",
             f"{one.margin:.4g}", f"{one.p:.2g}")
            for one in result.metrics
        ]  # fmt: skip
        print(table([("metric", "is", "n", "difference", "95 %", "may lose", "p"), *rows]))
        print(visible(f"{result.verdict}: {result.reason}"))
    return CODES[result.verdict]
