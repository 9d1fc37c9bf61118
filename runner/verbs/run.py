"""`recipe run`: train recipes one after the other, and evaluate each."""

from __future__ import annotations

import argparse

from recipes.errors import UserError
from runner.verbs import options

EXAMPLES = (
    "recipe run quickstart",
    "recipe run finance_lora finance_full --set training.epochs=1",
    "recipe run finance_dpo --from quickstart",
    "recipe run finance_lora --from quickstart:500 --merged",
    "recipe run finance_lora --name nightly --resume",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="recipe files, or names from `recipe list`")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--name", type=options.run_name, help="name of the run directory (default: the recipe's name, then -2, -3, …)"
    )
    parser.add_argument("--no-eval", action="store_true", help="train only; evaluate later with `recipe eval`")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="where the run of this name is there, go on with it, or score it: the command may be repeated",
    )
    options.add_parent(parser)
    options.add_trust(parser)
    options.add_runs_dir(parser)
    options.add_env(parser)
    options.add_set(parser)
    parser.epilog = "The last line on stdout is the run directory."


def run(arguments: argparse.Namespace) -> None:
    from recipes import load
    from runner.training.planning import show_plan

    several = len(arguments.recipes) > 1
    if several and arguments.name:
        raise UserError("--name: works with one recipe only; several runs are named after their recipes")
    if several and arguments.resume:
        raise UserError("--resume: works with one recipe only")
    if several and arguments.parent:
        raise UserError("--from: works with one recipe only")
    if arguments.parent or arguments.merged:
        loaded, parent = options.loaded_child(arguments, arguments.recipes[0], make=not arguments.dry_run)
        recipes = [loaded]
    else:
        recipes, parent = [load(name, arguments.overrides) for name in arguments.recipes], None
    if arguments.dry_run:
        for one in recipes:
            show_plan(one, arguments.runs_dir, arguments.name)
        return
    from runner.failure import Failure
    from runner.training.command import run_all, run_or_resume
    from runner.training.train import Options

    how = Options(
        runs_dir=arguments.runs_dir,
        name=arguments.name,
        env=arguments.env,
        parent=parent,
        trust_run=arguments.trust_run,
        say=options.say,
    )
    if arguments.resume:
        print(run_or_resume(recipes[0], how, score=not arguments.no_eval).path)
        return
    done, failed = run_all(recipes, how, score=not arguments.no_eval)
    for finished in done:
        print(finished.path)
    if failed:
        raise Failure(f"{', '.join(failed)}; see the errors above")
