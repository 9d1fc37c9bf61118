"""The stages of a recipe, one after the other: each is a run that begins with the weights of the one before."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recipes import LoadedRecipe, Problem, Recipe, UserError, load
from recipes.model_files import write_settings
from runner.files import cache_directory
from runner.runs.rundir import Run
from runner.scoring.seeds import seed_name
from runner.training.named import Wanted, begun, checked, run_named, wanted
from runner.training.only_scores import FILE
from runner.training.parent import child_of, merges, with_weights
from runner.training.train import Options, prepare_recipe


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: what `load` takes for it, with these overrides, and the name of its run."""

    recipe: str
    overrides: tuple[str, ...]
    loaded: LoadedRecipe
    run: str


def stages(
    recipes: Sequence[str], overrides: Sequence[str], options: Options, seeds: Sequence[int] = ()
) -> list[list[Stage]]:
    """The stages of a recipe, once for each seed, or once with its own.

    Raises:
        UserError: the mistakes of all stages.
    """
    found = []
    for seed in seeds or (None,):
        own = [*overrides, *([] if seed is None else [f"training.seed={seed}"])]
        chain: list[Stage] = []
        problems: list[Problem | str] = []
        for recipe in recipes:
            try:
                loaded = load(recipe, own, scoring=True)
            except UserError as error:
                problems += error.problems
                continue
            name = f"{options.name}-{recipe.rpartition(':')[2]}" if options.name else loaded.recipe.name
            name = name if seed is None else seed_name(name, seed)
            chain.append(Stage(recipe=recipe, overrides=tuple(own), loaded=loaded, run=name))
        if problems:
            raise UserError(*problems)
        found.append(chain)
    return found


def check_chains(chains: Sequence[Sequence[Stage]], options: Options) -> None:
    """Check every stage, and read the rows of those that have not begun, before the first one trains.

    A later stage is checked as if its model were the recipe's own, and with an adapter such as the one before trains.

    Raises:
        UserError, Failure: what the backend refuses, or rows that cannot be used; nothing was trained.
    """
    check_stages(chains)
    for stage in chains[0]:
        if not (options.runs_dir / stage.run / (FILE if stage.loaded.scoring else "run.json")).is_file():
            _read_rows(stage, options)


def check_stages(chains: Sequence[Sequence[Stage]]) -> None:
    """As `check_chains`, of what the recipe says alone; no rows are read."""
    for chain in chains:
        before: Recipe | None = None
        for stage in chain:
            checked(stage.loaded, stage.run)
            if not stage.loaded.scoring:
                before = check_after(stage, before) if before else stage.loaded.recipe


def check_after(stage: Stage, before: Recipe) -> Recipe:
    """The recipe of a stage as it will be after another one, whose weights are not there yet."""
    if before.tuning.type != "lora" or merges(before, stage.loaded.recipe):
        return stage.loaded.recipe
    with tempfile.TemporaryDirectory() as name:
        write_settings(Path(name), before.tuning)
        loaded = with_weights(
            stage.recipe, stage.overrides, stage.loaded, before, Path(name), adapter=True, say=lambda _: None
        )
        checked(loaded, stage.run)
    return loaded.recipe


def _read_rows(stage: Stage, options: Options) -> None:
    """Prepare the rows of a stage in a run that is thrown away; where they have a name by content, they are kept."""
    one = checked(stage.loaded, stage.run)
    options.say(f"stage {stage.recipe.rpartition(':')[2]}: reading its rows, before the first stage trains")
    cache_directory().mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="stage-", dir=cache_directory()))

    def say(text: str) -> None:
        if str(directory) not in text:
            options.say(text)

    try:
        prepare_recipe(one.loaded, one.machines, replace(options, runs_dir=directory, name=stage.run, say=say))
    except UserError as error:
        raise UserError(f"stage {stage.recipe}: nothing was trained:", *error.problems) from None
    finally:
        shutil.rmtree(directory)


def next_run(stage: Stage, before: Run | None, options: Options) -> Wanted:
    """A stage with the weights of the run before it; of the first, with those that the command line names, if any.

    Raises:
        UserError: the recipe does not go with these weights, or its name is taken by another recipe's run.
        Failure: an export or a merge failed.
    """
    if before is None:
        return wanted(stage.loaded, stage.run, options.runs_dir, options.parent)
    loaded, parent = child_of(stage.recipe, stage.overrides, str(before.path), options)
    return wanted(loaded, stage.run, options.runs_dir, parent)


def run_stage(stage: Stage, before: Run | None, options: Options) -> Run:
    """Have a stage's run ended: as it is, gone on with, or made.

    Raises:
        UserError, Failure, Interrupted: as `run_named`.
    """
    one = next_run(stage, before, options)
    if begun(one, options.runs_dir) is None:
        options.say(f"stage {stage.recipe.rpartition(':')[2]}:")
    return run_named(one, options)
