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
    from recipes import load, stages_of
    from runner.training.planning import plan_of

    first, *rest = stages_of(arguments.recipe)
    if arguments.parent or arguments.merged:
        loaded, _ = options.loaded_child(arguments, first, make=False)
    else:
        loaded = load(first, arguments.overrides)
    each = [loaded, *(load(name, arguments.overrides) for name in rest)]
    plans = [plan_of(one, arguments.runs_dir, as_json=arguments.json) for one in each]
    if arguments.json:
        print(plans[0] if not rest else f"[{','.join(plans)}]")
    else:
        print("\n\n".join([plans[0], *(f"{options.AFTER}\n{plan}" for plan in plans[1:])]))
