"""Runs of fixed names: one that has ended is taken as it is, one that was stopped goes on, others are made."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.contract import Topology
from eval.report.results import FILE
from recipes import LoadedRecipe, UserError, load_text
from recipes.typed import to_json
from runner.runs.rundir import Parent, Run
from runner.scoring.seeds import seed_name
from runner.training.conditions import values
from runner.training.micro_batch import FIELD, settled, was_auto
from runner.training.planning import check, machines_of
from runner.training.resume import resume_run
from runner.training.train import Options, run_recipe

SHOWN = 6  # fields that differ, named
UNLIKE = ("name", "description", "logging", "launch")  # no run is another by these


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A recipe and the name of its run; `settled` for these machines and checked."""

    loaded: LoadedRecipe
    name: str
    machines: Topology
    parent: Parent | None = None


def seeded(recipes: Sequence[LoadedRecipe], seeds: Sequence[int], name: str | None) -> list[tuple[LoadedRecipe, str]]:
    """Each recipe with each training seed, and its run's name; `name`: of one recipe, in the place of its own.

    Raises:
        UserError: two recipes have one name.
    """
    found = {}
    for loaded in recipes:
        for seed in seeds:
            own = seed_name(name or loaded.recipe.name, seed)
            if own in found:
                raise UserError(f"{loaded.path}: another recipe here is called {loaded.recipe.name} too; set `name`")
            found[own] = load_text(loaded.source, loaded.path, [*loaded.overrides, f"training.seed={seed}"])
    return [(loaded, own) for own, loaded in found.items()]


def wanted(loaded: LoadedRecipe, name: str, runs_dir: Path, parent: Parent | None = None) -> Wanted:
    """Check that a recipe can be trained here, under this name.

    Raises:
        UserError: the backend refuses it, the name is taken by another recipe's run, or there are several nodes.
    """
    found = replace(checked(loaded, name), parent=parent)
    run = begun(found, runs_dir)
    if run:
        _check_same(run, found)
    return found


def checked(loaded: LoadedRecipe, name: str) -> Wanted:
    """A recipe, settled for these machines, that can be trained on them.

    Raises:
        UserError: the backend refuses it, or there are several nodes.
    """
    machines = machines_of(loaded)
    if machines.nodes > 1:
        text = (
            f"{name}: several runs by one command are for one machine; on {machines.nodes} nodes start each by itself"
        )
        raise UserError(f"{text}: recipe run {shlex.quote(str(loaded.path))} --name {name}")
    loaded = settled(loaded, machines)
    check(loaded, machines)
    return Wanted(loaded=loaded, name=name, machines=machines)


def begun(one: Wanted, runs_dir: Path) -> Run | None:
    """The run of that name, where there is one."""
    path = (runs_dir / one.name).resolve()
    return Run(path) if (path / "run.json").is_file() else None


def _check_same(run: Run, one: Wanted) -> None:
    """Raises UserError where a run of the name is of another recipe, or of other weights."""
    tried = (FIELD,) if was_auto(run.read().chosen) and was_auto(one.loaded.chosen) else ()
    told = unlike(run.recipe(), one.loaded, tried)
    old = run.read().parent
    if not told and (old and old.hash) != (one.parent and one.parent.hash):
        told = ["  the weights that it began with are others"]
    if told:
        advice = f"give other names with --name, or remove it: recipe rm {run.name}"
        raise UserError(f"{run.path} is there already, of another recipe:", *told, advice)


def check_goes_on(run: Path, there: LoadedRecipe, asked: LoadedRecipe, *, child: bool) -> None:
    """Hold a recipe beside the one that a run has, which it goes on with.

    Args:
        there: the run's.
        child: the run began with the weights of another, and has its model and tuning of it.

    Raises:
        UserError: it would train otherwise than this recipe says.
    """
    auto = () if asked.recipe.training.micro_batch_size else (FIELD,)
    if told := unlike(there, asked, (*(("model", "tuning") if child else ()), *auto)):
        raise UserError(
            f"{run} goes on with the recipe that it began with, and this one is another:",
            *told,
            f"leave it as it was, give the new run another --name, or change the run: recipe resume {run.name} --set …",
        )


def unlike(there: LoadedRecipe, asked: LoadedRecipe, but: Sequence[str] = ()) -> list[str]:
    """A line for each of the first fields by which two recipes train differently; those of `but` do not count."""
    before, now = values(there), values(asked)
    told = [
        f"  {field}: {to_json(before.get(field))!r} there, {to_json(now.get(field))!r} asked for"
        for field in sorted(before.keys() | now.keys())
        if not {field, field.partition(".")[0]} & {*UNLIKE, *but}
        and to_json(before.get(field)) != to_json(now.get(field))
    ]
    return [*told[:SHOWN], *([f"  and {len(told) - SHOWN} fields more"] if len(told) > SHOWN else [])]


def run_named(one: Wanted, options: Options) -> Run:
    """Have the run of a name ended: as it is, gone on with, or made.

    Raises:
        UserError, Failure, Interrupted: as `run_recipe` and `resume_run`.
    """
    run = begun(one, options.runs_dir)
    if run is None:
        return run_recipe(one.loaded, one.machines, replace(options, name=one.name, parent=one.parent))
    if run.state() == "succeeded":
        options.say(f"{run.name} has succeeded, and is taken as it is")
        return run
    if run.read().attempts:
        options.say(f"{run.name} has state {run.state()}, and goes on")
    return resume_run(run, one.machines, replace(options, name=None, parent=None))


def is_scored(run: Run) -> bool:
    """Whether a finished run has its results."""
    return (run.path / "eval" / FILE).is_file()
