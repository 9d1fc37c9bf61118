"""`recipe logs`: what a run's backend printed."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe logs quickstart -n 50", "recipe logs quickstart -f")


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing until the run ends")
    parser.add_argument("-n", "--lines", type=options.count, default=None, help="print only the last N lines")
    options.add_runs_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    from runner.runs.logs import show
    from runner.runs.rundir import find

    show(find(arguments.run, arguments.runs_dir), follow=arguments.follow, lines=arguments.lines)
