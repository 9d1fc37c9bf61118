"""`recipe validate`: every mistake of each recipe, before anything is built or trained."""

from __future__ import annotations

import argparse

from recipes.errors import UserError
from runner.verbs import options

EXAMPLES = ("recipe validate mine.yaml", "recipe validate quickstart --set backend=verl")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="recipe files, or names from `recipe list`")
    options.add_set(parser)


def run(arguments: argparse.Namespace) -> int:
    from recipes import load, stages_of
    from runner.training.micro_batch import settled
    from runner.training.planning import check, machines_of

    code = 0
    for name in arguments.recipes:
        try:
            for one in stages_of(name, scoring=True):
                loaded = load(one, arguments.overrides, scoring=True)
                machines = machines_of(loaded)
                check(settled(loaded, machines), machines)
            print(f"{name}: ok")
        except UserError as error:
            code = 2
            options.say(str(error))
    return code
