"""`recipe gate`: whether a run may take the place of another, or of its base, for people and for CI."""

from __future__ import annotations

import argparse

from recipes.errors import UserError
from runner.verbs import options

EXAMPLES = ("recipe gate finance_lora --baseline base", "recipe gate new --baseline old --metrics truthfulqa --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("candidate", metavar="CANDIDATE", help="name or directory of an evaluated run")
    add(
        "--baseline",
        required=True,
        metavar="RUN|base",
        help="the evaluated run that it is to replace, or its base model",
    )
    add(
        "--metrics", default="", help="metrics or suites that count, with commas (default: all that have a better side)"
    )
    add("--margin", type=options.share, default=0.01, help="share of the baseline's mean that none may lose (0.01)")
    add("--json", action="store_true", help="print the verdict and its metrics as JSON")
    options.add_runs_dir(parser)
    parser.epilog = "Exit code 0: ship; 1: don't; 3: can't tell; 2: a mistake."


def run(arguments: argparse.Namespace) -> int:
    import json

    from eval.report.gate import CODES, gate
    from recipes.typed import to_json
    from runner.runs.rundir import find
    from runner.runs.show import table
    from runner.scoring.compare import entries

    candidate = find(arguments.candidate, arguments.runs_dir)
    found = entries([candidate])
    if arguments.baseline == "base":
        if len(found) < 2:
            raise UserError(f"{candidate.name} was scored without its base model: `recipe eval {candidate.name}`")
        baseline = found[0]
    else:
        (baseline,) = entries([find(arguments.baseline, arguments.runs_dir)], base=False)
    wanted = [name for name in arguments.metrics.split(",") if name]
    result = gate(baseline, found[-1], margin=arguments.margin, metrics=wanted)
    if arguments.json:
        print(json.dumps(to_json(result), ensure_ascii=False))
    else:
        rows = [
            (one.metric, one.state, str(one.n), f"{one.difference:+.4g}", f"[{one.low:+.4g}, {one.high:+.4g}]",
             f"{one.margin:.4g}", f"{one.p:.2g}")
            for one in result.metrics
        ]  # fmt: skip
        print(table([("metric", "is", "n", "difference", "95 %", "may lose", "p"), *rows]))
        print(f"{result.verdict}: {result.reason}")
    return CODES[result.verdict]
