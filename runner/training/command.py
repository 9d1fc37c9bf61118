"""What `recipe run` and `recipe resume` do: train, score, and set several runs beside each other."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from adapters.contract import Topology
from recipes import LoadedRecipe, UserError
from runner.failure import Failure
from runner.runs.claim import STALE_S
from runner.runs.reward_model import is_reward_model
from runner.runs.rundir import Run
from runner.runs.trust import check_trusted
from runner.scoring.compare import report_over_all
from runner.scoring.models import EvalOptions, results_table
from runner.scoring.runs import score_run
from runner.training.chain import Stage, check_chains, run_stage
from runner.training.micro_batch import settled
from runner.training.named import Wanted, begun, check_goes_on, is_scored, run_named, seeded, wanted
from runner.training.only_scores import score_stage
from runner.training.planning import check, machines_of
from runner.training.resume import recipe_asked, resume_run
from runner.training.train import Options, prepare_recipe, run_recipe, train_prepared


def run_all(recipes: Sequence[LoadedRecipe], options: Options, *, score: bool) -> tuple[list[Run], list[str]]:
    """Run recipes one after the other; of several, one that fails does not stop those after it.

    Returns the finished runs, and the names of the recipes that failed, whose reasons have been said.

    Raises:
        UserError: a recipe is wrong; all are checked before the first one trains.
        Failure: the one recipe failed.
    """
    machines = [machines_of(loaded) for loaded in recipes]
    recipes = [settled(loaded, topology) for loaded, topology in zip(recipes, machines, strict=True)]
    for loaded, topology in zip(recipes, machines, strict=True):
        check(loaded, topology)
    # On several nodes each recipe is prepared by node 0 when the others wait for it.
    prepared: list[Run] = []
    if len(recipes) > 1 and machines[0].nodes == 1:
        prepared = _prepare_all(recipes, machines, [options] * len(recipes))
    done: list[Run] = []
    failed: list[str] = []
    for place, (loaded, topology) in enumerate(zip(recipes, machines, strict=True)):
        try:
            if prepared:
                run = train_prepared(prepared[place], loaded, topology, options)
            else:
                run = run_recipe(loaded, topology, options)
            if score and topology.node_rank == 0:
                score_finished(run, options)
            done.append(run)
        except (UserError, Failure) as error:
            if len(recipes) == 1:
                raise
            options.say(str(error))
            failed.append(loaded.recipe.name)
    if len(recipes) > 1 and machines[0].node_rank == 0:
        scored = [run for run in done if (run.path / "eval" / "results.json").is_file()]
        if scored:
            report_over_all(scored, options.runs_dir, options.say)
    return done, failed


def run_or_resume(loaded: LoadedRecipe, options: Options, *, score: bool) -> Run:
    """Begin the run of this name, go on with it, or only score it: as often as it is called, one finished run.

    Raises:
        UserError, Failure: as `run_recipe`, `resume_run` and `score_run`; or the run has another recipe.
    """
    name = options.name or loaded.recipe.name
    run = Run((options.runs_dir / name).resolve())
    if not (run.path / "run.json").is_file():
        (run,), _ = run_all([loaded], replace(options, name=name, begun=True), score=score)
        return run
    if not loaded.path.resolve().is_relative_to(run.path):  # what it was launched with: it may have changed since
        check_goes_on(run.path, run.recipe(), loaded, child=run.read().parent is not None)
    if run.read().state != "succeeded":
        # Twice the age of an old heartbeat: a file server can be that late to give the lock of a dead host back.
        resume(run, replace(options, parent=None, wait_s=2 * STALE_S), score=score)
    elif score and machines_of(loaded).node_rank == 0:  # stopped while it was scored
        check_trusted(run, run.recipe().recipe, "eval", trusted=options.trust_run)
        score_finished(run, options)
    return run


def _prepare_all(recipes: Sequence[LoadedRecipe], machines: Sequence[Topology], each: Sequence[Options]) -> list[Run]:
    """The data of all before any trains: what is wrong with the last must not be found after hours with the first.

    Raises:
        UserError: some cannot be used; no run is left of any.
    """
    prepared: list[Run] = []
    problems: list[str] = []
    try:
        for loaded, topology, options in zip(recipes, machines, each, strict=True):
            options.say(f"{options.name or loaded.recipe.name}:")
            try:
                prepared.append(prepare_recipe(loaded, topology, options))
            except (UserError, Failure) as error:
                problems.append(f"{options.name or loaded.recipe.name}: {error}")
        if problems:
            raise UserError(*problems, f"nothing was trained: {len(problems)} of {len(recipes)} recipes cannot run")
    except BaseException:
        for run in prepared:
            shutil.rmtree(run.path)
        raise
    return prepared


def run_seeds(
    recipes: Sequence[LoadedRecipe], seeds: Sequence[int], options: Options, *, score: bool
) -> tuple[list[Run], list[str]]:
    """Run each recipe once for each training seed, and set them beside each other; see `run_several`."""
    pairs = seeded(recipes, seeds, options.name)
    todo = [wanted(loaded, name, options.runs_dir, options.parent) for loaded, name in pairs]
    return run_several(todo, options, score=score)


def run_several(todo: Sequence[Wanted], options: Options, *, score: bool) -> tuple[list[Run], list[str]]:
    """Have the runs of fixed names ended and scored, one after the other; what has ended before is taken as it is.

    Returns the finished runs, and the names of those that failed, whose reasons have been said.

    Raises:
        UserError: the data of some that are new cannot be used; nothing was trained.
    """
    new = [one for one in todo if begun(one, options.runs_dir) is None]
    if len(new) > 1:
        named = [replace(options, name=one.name, parent=one.parent) for one in new]
        _prepare_all([one.loaded for one in new], [one.machines for one in new], named)
    done: list[Run] = []
    failed: list[str] = []
    for one in todo:
        try:
            run = run_named(one, options)
            if score and not is_scored(run):
                score_finished(run, options)
            done.append(run)
        except (UserError, Failure) as error:
            if len(todo) == 1:
                raise
            options.say(str(error))
            failed.append(one.name)
    report_several(done, options)
    return done, failed


def run_chains(chains: Sequence[Sequence[Stage]], options: Options, *, score: bool) -> list[Run]:
    """Train the stages of a recipe one after the other, once for each seed; what has ended before is taken as it is.

    Raises:
        UserError, Failure: a stage is wrong (all are checked before the first one trains), or failed; what has ended
            stays, and the same command goes on from there.
    """
    check_chains(chains, options)
    done: list[Run] = []
    for chain in chains:
        before = None
        for stage in chain:
            if before and stage.loaded.scoring:
                if score:
                    score_stage(stage.loaded, stage.run, before, options)
                else:
                    options.say(f"{stage.run} is left out: --no-eval")
                continue
            before = run_stage(stage, before, options)
            if score and not is_scored(before):
                score_finished(before, options)
            done.append(before)
    report_several(done, options)
    return done


def report_several(done: Sequence[Run], options: Options) -> None:
    """The report over all, where several were scored."""
    scored = [run for run in done if is_scored(run)]
    if len(scored) > 1:
        report_over_all(scored, options.runs_dir, options.say)


def resume(run: Run, options: Options, *, score: bool) -> None:
    """Go on with a run, and score it.

    Raises:
        UserError, Failure: as `resume_run` and `score_run`.
    """
    topology = machines_of(recipe_asked(run, options))
    resume_run(run, topology, options)
    if score and topology.node_rank == 0 and not options.dry_run:
        score_finished(run, options)


def score_finished(run: Run, options: Options) -> None:
    """Score a run that has just ended, where its recipe names suites, and say what can be done with it."""
    if run.recipe().recipe.eval.suites:
        options.say(results_table(score_run(run, EvalOptions(), options.say)))
    if is_reward_model(run):
        options.say(f"next: recipe eval {run.name}; recipe merge {run.name}")
    elif run.recipe().recipe.method != "pretrain":
        options.say(f"next: recipe chat {run.name} base; recipe serve {run.name}; recipe merge {run.name}")
