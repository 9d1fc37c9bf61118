"""`recipe plan`: the commands, files and environment of a run, and what becomes of each recipe field."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from runner.verbs import options

if TYPE_CHECKING:
    from recipes import LoadedRecipe
    from runner.runs.rundir import Parent

EXAMPLES = (
    "recipe plan quickstart",
    "N_GPUS=8 recipe plan qwen3_4b_financial --set backend=verl --json",
    "recipe plan quickstart --on slurm --gpus 0",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_recipe(parser)
    parser.add_argument("--json", action="store_true", help="print argv, env, files and ledger as JSON")
    options.add_parent(parser)
    options.add_launch(parser)
    options.add_runs_dir(parser)
    options.add_set(parser)


def run(arguments: argparse.Namespace) -> None:
    from recipes import load, stages_of
    from runner.training.planning import plans_of

    first, *rest = stages_of(arguments.recipe, scoring=True)
    asked = options.launch_overrides(arguments)
    arguments.overrides = [*arguments.overrides, *asked]
    name, parent = arguments.recipe if asked else first, None
    if arguments.parent or arguments.merged:
        loaded, parent = options.loaded_child(arguments, name, make=False)
    else:
        loaded = load(name, arguments.overrides, scoring=not asked)
    if asked:
        _launch(loaded, parent, arguments)
        return
    each = [loaded, *(load(name, arguments.overrides, scoring=True) for name in rest)]
    print(plans_of([(one, None) for one in each], arguments.runs_dir, as_json=arguments.json))


def _launch(loaded: LoadedRecipe, parent: Parent | None, arguments: argparse.Namespace) -> None:
    """The plan of a launch: of node 0 on the machines that are asked for, and what the place is given."""
    from runner.launching.launch import began, job, launch_json, launch_text, request
    from runner.training.planning import plan_of

    options.check_place(arguments, loaded.recipe.launch.on)
    words = began(parent, merged=arguments.merged) if parent else ()
    asked = request(loaded, arguments.runs_dir.resolve() / loaded.recipe.name, began=words)
    made = job(asked)
    made_json = {"launch": launch_json(asked, made)} if arguments.json else None
    print(plan_of(loaded, arguments.runs_dir, as_json=arguments.json, machines=asked.machines, more=made_json))
    if not arguments.json:
        print(f"\n{launch_text(asked, made)}")
