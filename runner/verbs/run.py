"""`recipe run`: train recipes one after the other, and evaluate each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.errors import UserError
from runner.verbs import options

if TYPE_CHECKING:
    from recipes import LoadedRecipe
    from runner.runs.rundir import Run
    from runner.training.chain import Stage
    from runner.training.train import Options

EXAMPLES = (
    "recipe run quickstart",
    "recipe run finance_lora finance_full --set training.epochs=1",
    "recipe run finance_dpo --from quickstart",
    "recipe run finance_lora --from quickstart:500 --merged",
    "recipe run finance_lora finance_full --seeds 1,2,3",
    "recipe run finance_sft_dpo",
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
        "--seeds",
        type=options.seeds,
        default=(),
        metavar="N,N,…",
        help="a run for each training seed, RECIPE-seed-N; what has ended before is taken as it is, the rest goes on",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="where the run of this name is there, go on with it, or score it: the command may be repeated",
    )
    options.add_training(parser)
    parser.epilog = "The last line on stdout is the run directory."


def run(arguments: argparse.Namespace) -> None:
    from recipes import load, stages_of

    names = [one for name in arguments.recipes for one in stages_of(name, scoring=True)]
    several = len(arguments.recipes) > 1
    if several and arguments.name:
        raise UserError("--name: works with one recipe only; several runs are named after their recipes")
    if several and arguments.resume:
        raise UserError("--resume: works with one recipe only")
    if several and arguments.parent:
        raise UserError("--from: works with one recipe only")
    chain = len(names) > len(arguments.recipes)
    if several and chain:
        raise UserError("a recipe with stages is run by itself: give each a command of its own")
    if arguments.resume and (chain or arguments.seeds):
        raise UserError("--resume: stages and --seeds go on by themselves when the command is repeated")
    if arguments.accept and not (arguments.resume or arguments.seeds or chain):
        raise UserError("--accept: goes with --resume, stages or --seeds; a new run has nothing that could differ")
    if not several and not stages_of(names[0]):
        _score(load(names[0], arguments.overrides, scoring=True), arguments)
        return
    there = _there(names[0], arguments) if arguments.resume else None
    if (arguments.parent or arguments.merged) and not there:
        loaded, parent = options.loaded_child(arguments, names[0], make=not arguments.dry_run)
        recipes = [loaded]
    elif there and there.read().parent:
        from runner.training.parent import load_child

        recipes, parent = [load_child(names[0], arguments.overrides, there.recipe())], None
    else:
        recipes, parent = [load(name, arguments.overrides) for name in names[: 1 if chain else None]], None
    if arguments.dry_run and not chain:
        _show(recipes, arguments)
        return
    from runner.failure import Failure
    from runner.training.command import run_all, run_chains, run_or_resume, run_seeds

    how = replace(options.how(arguments), name=arguments.name, parent=parent)
    score, failed = not arguments.no_eval, list[str]()
    if arguments.resume:
        done = [run_or_resume(recipes[0], how, score=score)]
    elif chain:
        chains = _chains(names, recipes[0], how, arguments)
        if arguments.dry_run:
            _show_chains(chains, arguments.runs_dir)
            return
        done = run_chains(chains, how, score=score)
    elif arguments.seeds:
        done, failed = run_seeds(recipes, arguments.seeds, how, score=score)
    else:
        done, failed = run_all(recipes, how, score=score)
    for finished in done:
        print(finished.path)
    if failed:
        raise Failure(f"{', '.join(failed)}; see the errors above")


def _there(name: str, arguments: argparse.Namespace) -> Run | None:
    """The run that is gone on with, which has its weights: the run of `--from` may be gone, or train again.

    Raises:
        UserError: it began with other weights than are asked for.
    """
    from recipes import load
    from runner.runs.rundir import Run
    from runner.training.parent import check_began

    run = Run((arguments.runs_dir / (arguments.name or load(name, arguments.overrides).recipe.name)).resolve())
    if not (run.path / "run.json").is_file():
        return None
    if arguments.parent:
        check_began(run, arguments.parent, arguments.runs_dir, merged=arguments.merged)
    return run


def _chains(
    names: Sequence[str], first: LoadedRecipe, how: Options, arguments: argparse.Namespace
) -> list[list[Stage]]:
    """The stages by seed; the first of each as `--from` has it."""
    from recipes import load_text
    from runner.training.chain import stages

    found = stages(names, arguments.overrides, how, arguments.seeds)
    if not arguments.parent:
        return found
    for chain in found:
        own = [text for text in chain[0].overrides if text not in arguments.overrides]
        chain[0] = replace(chain[0], loaded=load_text(first.source, first.path, [*first.overrides, *own]))
    return found


def _show(recipes: Sequence[LoadedRecipe], arguments: argparse.Namespace) -> None:
    from runner.training.named import seeded
    from runner.training.planning import plan_of

    for one, name in seeded(recipes, arguments.seeds, arguments.name) or [(one, arguments.name) for one in recipes]:
        print(plan_of(one, arguments.runs_dir, name))


def _show_chains(chains: Sequence[Sequence[Stage]], runs_dir: Path) -> None:
    from runner.training.chain import check_stages
    from runner.training.planning import plans_of

    check_stages(chains)
    for chain in chains:
        print(plans_of([(stage.loaded, stage.run) for stage in chain], runs_dir))


def _score(stage: LoadedRecipe, arguments: argparse.Namespace) -> None:
    """A stage by itself that trains nothing: of the run that `--from` names."""
    from runner.runs.rundir import find
    from runner.training.only_scores import score_stage
    from runner.training.planning import plans_of

    name = arguments.name or stage.recipe.name
    if not arguments.parent:
        raise UserError(f"{name} scores what the stage before it has made: run the recipe whole, or give --from RUN")
    given = {"--merged": arguments.merged, "--seeds": arguments.seeds, "--no-eval": arguments.no_eval}
    if wrong := next((option for option, value in given.items() if value), None):
        raise UserError(f"{wrong}: {name} trains nothing, and scores a finished run; take it out")
    run = find(arguments.parent, arguments.runs_dir)
    if arguments.dry_run:
        print(plans_of([(stage, name)], arguments.runs_dir, run.name))
        return
    score_stage(stage, name, run, options.how(arguments))
    print(arguments.runs_dir.resolve() / name)
