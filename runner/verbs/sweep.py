"""`recipe sweep`: try values of a recipe's fields, each as a run, and keep the best as a recipe."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from recipes.errors import UserError
from runner.verbs import options

if TYPE_CHECKING:
    from recipes.types import Eval

EXAMPLES = (
    "recipe sweep quickstart --grid training.learning_rate=1e-4,1e-3 --grid tuning.rank=8,32",
    "recipe sweep quickstart --trials 20 --range training.learning_rate=1e-5..1e-2:log --metric perplexity",
)
SAMPLERS, PRUNERS = ("tpe", "random"), ("median", "halving", "none")  # runner/sweeping/search.py


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    options.add_recipe(parser)
    add(
        "--grid",
        action="append",
        default=[],
        metavar="FIELD=V,V",
        help="values of a field; several fields make all their combinations. May be repeated",
    )
    add(
        "--trials",
        type=options.count,
        metavar="N",
        help="let Optuna choose N trials (pip install 'recipe-runner[sweep]')",
    )
    add(
        "--range",
        action="append",
        default=[],
        dest="ranges",
        metavar="FIELD=LOW..HIGH[:log]",
        help="with --trials: the bounds of a number. May be repeated",
    )
    add("--metric", metavar="NAME", help="what trials are chosen by (default: the recipe's combined score)")
    add("--sampler", choices=SAMPLERS, default="tpe", help="with --trials: how values are drawn (default: tpe)")
    add(
        "--pruner",
        choices=PRUNERS,
        default="median",
        help="with --trials: what ends a trial whose scores at `eval.every` are low (default: median)",
    )
    add("--seed", type=int, default=42, help="with --trials: of the draws (default: 42)")
    add("--name", type=options.run_name, help="name of the sweep and its runs (default: RECIPE-sweep)")
    add("--dry-run", action="store_true", help="check all combinations, print them and stop")
    options.add_training(parser)
    parser.epilog = "The same command again goes on. The last line on stdout is the best trial's recipe."


def run(arguments: argparse.Namespace) -> None:
    from recipes import load
    from runner.sweeping.record import Search, objective
    from runner.sweeping.sweep import Asked, planned, report, run_sweep, shown
    from runner.sweeping.values import bounds, check_fields, grid

    grids = tuple(map(grid, arguments.grid))
    ranges = tuple(map(bounds, arguments.ranges))
    check_fields(grids, ranges, arguments.overrides)
    if ranges and not arguments.trials:
        raise UserError("--range needs --trials N: how many values are drawn; or give values with --grid")
    loaded, parent = load(arguments.recipe, arguments.overrides), None
    if arguments.parent or arguments.merged:
        loaded, parent = options.loaded_child(arguments, arguments.recipe, make=not arguments.dry_run)
    search = None
    if arguments.trials:
        pruner = arguments.pruner
        if pruner != "none" and not _scored_meanwhile(loaded.recipe.eval):
            options.say("note: nothing is pruned: that needs eval.every, and eval.mode: pause or concurrent")
            pruner = "none"
        search = Search(trials=arguments.trials, sampler=arguments.sampler, pruner=pruner, seed=arguments.seed)
    asked = Asked(
        loaded=loaded,
        name=arguments.name or f"{loaded.recipe.name}-sweep",
        goal=objective(loaded.recipe, arguments.metric),
        grids=grids,
        ranges=ranges,
        search=search,
    )
    how = replace(options.how(arguments), parent=parent)
    if arguments.dry_run:
        print(shown(planned(asked, how), asked))
        return
    sweep, directory = run_sweep(asked, how)
    print(report(sweep, directory))
    options.say(f"report: {directory / 'sweep.html'} (and sweep.json, best.yaml)")
    print(directory / "best.yaml")


def _scored_meanwhile(judged: Eval) -> bool:
    return judged.of_checkpoints and judged.mode in ("pause", "concurrent")
