"""`recipe resume`: continue a stopped run."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe resume quickstart", "recipe resume runs/quickstart-2 --no-eval")


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument("--no-eval", action="store_true", help="train only; evaluate later with `recipe eval`")
    options.add_runs_dir(parser)
    options.add_env(parser)


def run(arguments: argparse.Namespace) -> None:
    from runner.runs.rundir import find
    from runner.training.command import resume
    from runner.training.train import Options

    found = find(arguments.run, arguments.runs_dir)
    how = Options(runs_dir=arguments.runs_dir, env=arguments.env, say=options.say)
    resume(found, how, score=not arguments.no_eval)
    print(found.path)
