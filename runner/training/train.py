"""Runs a recipe: environment, data, training, result."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters import backend
from adapters.contract import PreparedData, Topology
from eval.report.history import History
from recipes import LoadedRecipe, Recipe, UserError
from recipes.methods import METHODS
from runner.failure import Failure, out_of_room
from runner.files import safetensors_header
from runner.machine import bundled, diagnose, environments, process
from runner.machine.environments import current_python, environment
from runner.machine.hub import of_hub, offline_if_unreachable
from runner.machine.topology import check_present
from runner.runs import rundir
from runner.runs.card import write_card
from runner.runs.claim import claim
from runner.runs.rundir import Run
from runner.runs.trust import remember
from runner.scoring.models import check_suites
from runner.training import nodes
from runner.training.attempt import Training, launch, set_aside_torn
from runner.training.checkpoint_scores import EarlyStop, Scorer
from runner.training.conditions import conditions
from runner.training.needs import check_needs
from runner.training.planning import check, make_plan
from runner.training.prepare import prepare
from runner.training.trial import tried


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run, as the command line says it."""

    runs_dir: Path
    name: str | None = None
    begun: bool = False  # whether a directory of that name is taken that holds no run yet
    wait_s: float = 0.0  # that a resume waits for a process that is perhaps gone with its host
    env: str = "locked"  # or current: this interpreter
    take_over: bool = False  # of a run that seems to run on another host
    trust_run: bool = False  # what a run that somebody else made says of code, endpoints and keys
    parent: rundir.Parent | None = None  # whose weights a new run begins with
    overrides: tuple[str, ...] = ()  # of a resume
    more_epochs: int = 0  # that a resume makes the training longer by
    dry_run: bool = False  # a resume only says what it would do
    accept: bool = False  # what a resume finds changed, and changes the result
    prune: Callable[[History], bool] | None = None  # whether the scores so far end the training, beside eval.patience
    from_step: int | None = None  # whose checkpoint a resume goes on from; None: the newest
    say: Callable[[str], None] = print


def run_recipe(loaded: LoadedRecipe, topology: Topology, options: Options) -> Run:
    """Run a recipe to its end.

    Raises:
        UserError, Failure, process.Interrupted: the run directory, where there is one, holds the state.
    """
    check(loaded, topology)
    check_present(topology)
    python = ready_python(loaded.recipe, topology, options)
    if topology.node_rank:
        run = Run((options.runs_dir / (options.name or loaded.recipe.name)).resolve())
        return take_part(run, loaded, topology, options, python)
    there = options.begun and (options.runs_dir / (options.name or loaded.recipe.name)).exists()
    run = _created(loaded, topology, options)
    try:
        with claim(run.path):
            return train(run, loaded, topology, options, python)
    except UserError:
        # Rows that cannot be used leave nothing to go on with, and no name in the way; other nodes wait for theirs.
        # A directory that was there before stays: a launch has its log in it.
        if topology.nodes == 1 and not run.read().attempts and not there:
            shutil.rmtree(run.path)
            options.say(f"nothing was trained; {run.path} is removed")
        raise


def _created(loaded: LoadedRecipe, topology: Topology, options: Options) -> Run:
    # On several nodes all must find the same directory: the name is then exact.
    name = options.name or (loaded.recipe.name if topology.nodes > 1 else None)
    run = rundir.create(loaded, options.runs_dir, name, topology, options.parent, begun=options.begun)
    remember(run)
    options.say(f"run: {run.path}")
    return run


def prepare_recipe(loaded: LoadedRecipe, topology: Topology, options: Options) -> Run:
    """The run of a recipe with its data prepared and its suites' data read, for `train_prepared`; or no run at all.

    Raises:
        UserError, Failure: the data cannot be used.
    """
    check(loaded, topology)
    check_present(topology)
    python = ready_python(loaded.recipe, topology, options)
    run = _created(loaded, topology, options)
    try:
        with claim(run.path), process.signals_raise():
            _prepared(run, loaded, python, options)
    except BaseException:
        shutil.rmtree(run.path)
        raise
    return run


def train_prepared(run: Run, loaded: LoadedRecipe, topology: Topology, options: Options) -> Run:
    """Go on with a run of `prepare_recipe` to its end.

    Raises:
        UserError, Failure, process.Interrupted: the run directory holds the state.
    """
    options.say(f"run: {run.path}")
    with claim(run.path):
        return train(run, loaded, topology, options, ready_python(loaded.recipe, topology, options))


def ready_python(recipe: Recipe, topology: Topology, options: Options) -> Path:
    """The backend's interpreter; its environment and the bundled model are made where they are missing."""
    offline_if_unreachable(of_hub(recipe), options.say)
    wanted = environment(recipe.backend, topology.device)
    python = current_python(recipe.backend) if options.env == "current" else wanted.python
    check_needs(recipe, wanted, python if options.env == "current" else None)
    if options.env != "current":
        environments.ensure(wanted, options.say)
    if recipe.model.path.startswith("bundled:"):
        bundled.ensure(python, options.say)
    return python


def train(run: Run, loaded: LoadedRecipe, topology: Topology, options: Options, python: Path) -> Run:
    """Train, and write down how it ended; a signal that comes while that is written is no crash."""
    with process.signals_raise():
        try:
            _train(run, loaded, topology, options, python)
        except process.Interrupted as stop:
            _end(run, "interrupted", options, reason=str(stop))
            raise
        except (UserError, Failure) as error:
            _end(run, "failed", options, reason=error.text() if isinstance(error, Failure) else str(error))
            raise
        except OSError as error:
            failure = out_of_room(error)
            if failure is None:
                raise
            _end(run, "failed", options, reason=failure.text())
            raise failure from None
        _end(run, "succeeded", options)
        write_card(run)
    return run


def _train(run: Run, loaded: LoadedRecipe, topology: Topology, options: Options, python: Path) -> None:
    """Train to the end, pausing where checkpoints are scored meanwhile, and make `model/`."""
    data = _prepared(run, loaded, python, options)
    loaded = tried(run, loaded, topology, python, options.say)
    recipe, module = loaded.recipe, backend(loaded.recipe.backend)
    training = Training(
        run=run, loaded=loaded, topology=topology, python=python, data=data, module=module, say=options.say
    )
    run.update(conditions=conditions(run, loaded))
    set_aside_torn(run, module, options.say)
    scorer = Scorer(run, recipe, module, training.export, options.say, options.prune)
    try:
        while not _trained(training):
            resume = training.newest()
            stop = scorer.next_stop(resume.step if resume else 0)
            training.start(len(run.read().attempts) + 1, resume, stop, scorer.poll)
            if stop:
                scorer.score_due()
                if why := scorer.stops_early():
                    _stopped_early(training, why)
        scorer.wait()
    except EarlyStop as stop:
        _stopped_early(training, str(stop))
    finally:
        scorer.close()
    scorer.failed.clear()
    scorer.score_due(ended=True)
    _finish(training, scorer)


def _prepared(run: Run, loaded: LoadedRecipe, python: Path, options: Options) -> PreparedData:
    data = prepare(run, loaded.recipe, python, bundled.located(loaded.recipe.model.path), options.say)
    _enough_rows(loaded, data)
    check_suites(run, options.say)
    return data


def _trained(training: Training) -> bool:
    """Whether there is nothing left to train: a whole checkpoint at the last step is a trained run."""
    run = training.run
    if run.read().trained_steps is None:
        newest, total = training.newest(), training.total_steps()
        if newest and total and newest.step >= total:
            training.recover_metrics(newest.step)
            run.update(trained_steps=newest.step)
    return run.read().trained_steps is not None


def _stopped_early(training: Training, why: str) -> None:
    newest = training.newest()
    step = newest.step if newest else 0
    training.say(f"early stopping at step {step}: {why}")
    training.run.update(trained_steps=step, ended_early=True)


def _enough_rows(loaded: LoadedRecipe, data: PreparedData) -> None:
    batch, rows = loaded.recipe.training.global_batch_size, data.train_rows or 0
    if rows < batch:
        place = ("training", "global_batch_size")
        whole = METHODS[loaded.recipe.method].rows.chat and not loaded.recipe.data.packing
        what = "training rows" if whole else "sequences that the training rows are put into"
        raise UserError(loaded.document.problem(place, f"{batch} is more than the {rows} {what}; at most {rows}"))


def _finish(training: Training, scorer: Scorer) -> None:
    """Make `model/` and judge the run by it: an exit code of 0 proves nothing."""
    run, newest, step = training.run, training.newest(), scorer.chosen_step()
    log = run.log(len(run.read().attempts))
    if newest is None:
        raise Failure(f"{run.name}: the training left no checkpoint", log=log)
    training.export(newest.step if step is None else step, run.model)
    run.update(model_step=step)
    problem = result_problem(run)
    if problem:
        raise Failure(f"{run.name}: {problem}", tail=diagnose.tail(log), log=log)


def result_problem(run: Run) -> str | None:
    """Why a run's `model/` and metrics do not amount to a finished training, or None."""
    weights = sorted(run.model.glob("*.safetensors"))
    if not weights or not any((run.model / name).is_file() for name in ("config.json", "adapter_config.json")):
        return "the training left no model"
    for file in weights:
        if safetensors_header(file) is None:
            return f"{file.name} is not whole"
    losses = [line["loss"] for line in run.steps() if "loss" in line]
    if not losses:
        return "the training reported no step"
    if not all(math.isfinite(loss) for loss in losses):
        return "the loss is not a finite number at some step"
    return None


def _end(run: Run, state: rundir.State, options: Options, reason: str = "") -> None:
    """Write down the state; where that cannot be, the claim's end says as much: the run reads as crashed."""
    with process.shielded():
        manifest = run.read()
        attempts = manifest.attempts
        if attempts:
            attempts = (*attempts[:-1], rundir.ended(attempts[-1], state))
        try:
            run.update(state=state, finished=rundir.now(), reason=reason, attempts=attempts)
        except OSError as error:
            options.say(f"{run.name}: the state {state} could not be written: {error.strerror}")


def take_part(run: Run, loaded: LoadedRecipe, topology: Topology, options: Options, python: Path) -> Run:
    """A node other than the first: everything is prepared, only the training is started."""
    number = nodes.join(run, topology, options.say)
    loaded = run.recipe()  # as node 0 has written it: a resume may have changed it
    recipe, module = loaded.recipe, backend(loaded.recipe.backend)
    data = prepare(run, recipe, python, bundled.located(recipe.model.path), options.say)
    resume = next(iter(module.checkpoints(run.path / "checkpoints")), None)
    plan = make_plan(loaded, topology, run.path, data=data, python=python, attempt=number, resume=resume)
    with process.signals_raise():
        launch(run, plan, module, recipe, topology, number, options.say)
    return run
