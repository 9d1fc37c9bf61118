"""`recipe plan`: the commands, files and environment of a run, and what becomes of each recipe field."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from runner.verbs import options

if TYPE_CHECKING:
    from recipes import LoadedRecipe

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
    from recipes import UserError, load
    from runner.training.planning import show_plan

    asked = options.launch_overrides(arguments)
    if asked:
        if arguments.parent or arguments.merged:
            raise UserError(
                "--from: a launch takes none; name the model in the recipe (model.path, model.adapter_path)"
            )
        _launch(load(arguments.recipe, [*arguments.overrides, *asked]), arguments)
        return
    if arguments.parent or arguments.merged:
        loaded, _ = options.loaded_child(arguments, arguments.recipe, make=False)
    else:
        loaded = load(arguments.recipe, arguments.overrides)
    show_plan(loaded, arguments.runs_dir, as_json=arguments.json)


def _launch(loaded: LoadedRecipe, arguments: argparse.Namespace) -> None:
    """The plan of a launch: of node 0 on the machines that are asked for, and what the place is given."""
    from runner.launching.launch import job, launch_json, launch_text, request
    from runner.training.planning import show_plan

    asked = request(loaded, arguments.runs_dir.resolve() / loaded.recipe.name)
    made = job(asked)
    if arguments.json:
        show_plan(
            loaded, arguments.runs_dir, as_json=True, machines=asked.machines, more={"launch": launch_json(asked, made)}
        )
    else:
        show_plan(loaded, arguments.runs_dir, machines=asked.machines)
        print(f"\n{launch_text(asked, made)}")
