"""`recipe plan`: the commands, files and environment of a run, and what becomes of each recipe field."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = ("recipe plan quickstart", "N_GPUS=8 recipe plan qwen3_4b_financial --set backend=verl --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_recipe(parser)
    parser.add_argument("--json", action="store_true", help="print argv, env, files and ledger as JSON")
    options.add_parent(parser)
    options.add_runs_dir(parser)
    options.add_set(parser)


def run(arguments: argparse.Namespace) -> None:
    from recipes import load
    from runner.training.planning import show_plan

    if arguments.parent or arguments.merged:
        loaded, _ = options.loaded_child(arguments, arguments.recipe, make=False)
    else:
        loaded = load(arguments.recipe, arguments.overrides)
    show_plan(loaded, arguments.runs_dir, as_json=arguments.json)
