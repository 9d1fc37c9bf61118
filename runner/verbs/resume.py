"""`recipe resume`: continue a stopped run, or any from one of its checkpoints."""

from __future__ import annotations

import argparse
from dataclasses import replace

from runner.verbs import options

EXAMPLES = (
    "recipe resume quickstart",
    "recipe resume runs/quickstart-2 --no-eval",
    "recipe resume quickstart --from 500",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument(
        "--from",
        type=options.count,
        dest="from_step",
        metavar="STEP",
        help="go on from the whole checkpoint of this step (default: the newest); what came after it is set aside",
    )
    parser.add_argument(
        "--more-epochs",
        type=options.count,
        default=0,
        metavar="N",
        help="train N epochs more, after the end too; says first what becomes of the learning rate",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be gone on with, and stop")
    options.add_set(parser)
    options.add_accept(parser)
    parser.add_argument("--no-eval", action="store_true", help="train only; evaluate later with `recipe eval`")
    parser.add_argument(
        "--take-over", action="store_true", help="continue a run whose process is gone with its host or container"
    )
    options.add_trust(parser)
    options.add_runs_dir(parser)
    options.add_env(parser)


def run(arguments: argparse.Namespace) -> None:
    from runner.runs.rundir import find
    from runner.training.command import resume

    found = find(arguments.run, arguments.runs_dir)
    how = replace(
        options.how(arguments),
        take_over=arguments.take_over,
        from_step=arguments.from_step,
        overrides=tuple(arguments.overrides),
        more_epochs=arguments.more_epochs,
        dry_run=arguments.dry_run,
    )
    resume(found, how, score=not arguments.no_eval)
    print(found.path)
