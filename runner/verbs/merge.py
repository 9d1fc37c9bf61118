"""`recipe merge`: one model of a run's adapter and its base."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe merge quickstart", "recipe merge quickstart --output ~/models/finance --dtype bfloat16")


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument(
        "--output", type=options.path, help="directory of the merged model (default: merged/ in the run)"
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the merged weights (default: auto, the base model's)",
    )
    options.add_trust(parser)
    options.add_runs_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    from runner.runs.merge import merge
    from runner.runs.rundir import find

    found = find(arguments.run, arguments.runs_dir)
    print(merge(found, arguments.output, arguments.dtype, options.say, trusted=arguments.trust_run))
