"""Runs a recipe: environment, data, plan, training, result; and goes on with one that was stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters import backend
from adapters.plan import Backend, Checkpoint, Plan, PreparedData, Topology, plain
from recipes import LoadedRecipe, Recipe, UserError
from runner import bundled, diagnose, environments, metrics, nodes, process, rundir
from runner.environments import clean_environment, current_python, environment
from runner.evaluate import check_suites
from runner.failure import Failure
from runner.files import code_directory, read_json, safetensors_header, write_text
from runner.planning import check, make_plan, model_path, paths
from runner.prepare import prepare
from runner.progress import Progress
from runner.rundir import Run
from runner.scoring import EarlyStop, Scorer
from runner.topology import check_present


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run, as the command line says it."""

    runs_dir: Path
    name: str | None = None
    env: str = "locked"  # or current: this interpreter
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
        return _take_part(run, loaded, topology, options, python)
    run = rundir.create(loaded, options.runs_dir, _shared_name(loaded, topology, options), topology=asdict(topology))
    options.say(f"run: {run.path}")
    return _attempt(run, loaded, topology, options, python)


def resume_run(run: Run, topology: Topology, options: Options) -> Run:
    """Go on with a run from its newest whole checkpoint.

    Raises:
        UserError: it is running, or has succeeded.
    """
    loaded = run.recipe()
    check(loaded, topology)
    check_present(topology)
    python = ready_python(loaded.recipe, topology, options)
    if topology.node_rank:
        return _take_part(run, loaded, topology, options, python)
    state = run.state()
    if state == "succeeded":
        raise UserError(f"{run.name} has succeeded: there is nothing to resume; its model is {run.model}")
    if state == "running":
        raise UserError(f"{run.name} is running (pid {run.read()['runner']['pid']}); stop it first, or wait")
    left = process.end_all(run.mark(topology.node_rank)) + process.end_all(run.mark("eval"))
    if left:
        options.say(f"ended {len(left)} processes that the last attempt left behind: {', '.join(map(str, left))}")
    run.update(runner=rundir.myself(), state="prepared")
    return _attempt(run, loaded, topology, options, python)


def ready_python(recipe: Recipe, topology: Topology, options: Options) -> Path:
    """The backend's interpreter, environment and bundled model made where they are missing."""
    if options.env == "current":
        python = current_python(recipe.backend)
    else:
        python = environments.ensure(environment(recipe.backend, topology.device), options.say)
    if recipe.model.path.startswith("bundled:"):
        bundled.ensure(python, options.say)
    return python


def _shared_name(loaded: LoadedRecipe, topology: Topology, options: Options) -> str | None:
    """On several nodes all must find the same directory: the name is then exact."""
    return options.name or (loaded.recipe.name if topology.nodes > 1 else None)


def _attempt(run: Run, loaded: LoadedRecipe, topology: Topology, options: Options, python: Path) -> Run:
    number = len(run.read()["attempts"]) + 1
    try:
        with process.signals_raise():
            _train(run, loaded, topology, options, python, number)
    except process.Interrupted as stop:
        _end(run, "interrupted", reason=str(stop))
        raise
    except (UserError, Failure) as error:
        _end(run, "failed", reason=error.text() if isinstance(error, Failure) else str(error))
        raise
    _end(run, "succeeded")
    return run


def _train(run: Run, loaded: LoadedRecipe, topology: Topology, options: Options, python: Path, number: int) -> None:
    """Train to the end, pausing where checkpoints are scored meanwhile, and make `model/`."""
    recipe, module = loaded.recipe, backend(loaded.recipe.backend)
    data = prepare(run, recipe, python, model_path(recipe), options.say)
    _enough_rows(loaded, data)
    check_suites(run, options.say)
    attempt = _Attempt(
        run=run, loaded=loaded, topology=topology, options=options, python=python, data=data, module=module
    )
    scorer = Scorer(run, recipe, module, attempt.export, options.say)
    try:
        while not run.read().get("trained_steps"):
            resume = _newest(run, module)
            stop = scorer.next_stop(resume.step if resume else 0)
            attempt.train(number, resume, stop, scorer.poll)
            number += 1
            if stop:
                scorer.score_due()
                if scorer.stops_early():
                    _stopped_early(run, options)
        scorer.wait()
    except EarlyStop:
        _stopped_early(run, options)
    finally:
        scorer.close()
    scorer.failed.clear()
    scorer.score_due(ended=True)
    _finish(run, attempt, scorer)


def _stopped_early(run: Run, options: Options) -> None:
    newest = _newest(run, backend(run.read()["backend"]))
    step = newest.step if newest else 0
    options.say(f"ended early at step {step}: the combined score has not risen any more (eval.patience)")
    run.update(trained_steps=step, ended_early=True)


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """What every part of a training in this process has in common."""

    run: Run
    loaded: LoadedRecipe
    topology: Topology
    options: Options
    python: Path
    data: PreparedData
    module: Backend

    def plan(self, number: int, resume: Checkpoint | None = None, stop: int | None = None) -> Plan:
        return make_plan(
            self.loaded,
            self.topology,
            self.run.path,
            data=self.data,
            python=self.python,
            attempt=number,
            resume=resume,
            stop=stop,
        )

    def train(self, number: int, resume: Checkpoint | None, stop: int | None, poll: Callable[[], None]) -> None:
        """One start of the backend, to step `stop` or to the end of the training."""
        run, say = self.run, self.options.say
        plan = self.plan(number, resume, stop)
        earlier = [run.path / attempt["metrics"] for attempt in run.read()["attempts"]]
        metrics.recover(run.metrics, earlier, self.module, resume.step if resume else -1)
        if resume:
            say(f"resuming from step {resume.step} ({resume.path.name})")
        for name, text in plan.files.items():
            write_text(run.path / name, text)
        for note in plan.notes:
            say(f"note: {note}")
        _record_start(run, plan, number, resume, self.topology)
        for command in plan.before:
            _call(run, plan, command, "a step before the training", run.log(number), run.mark())
        nodes.call(run, self.topology, number, say)
        started = time.monotonic()
        try:
            total = launch(run, plan, self.module, self.loaded.recipe, self.topology, number, poll)
        finally:
            run.update(training_time_s=run.read().get("training_time_s", 0) + time.monotonic() - started)
        newest = _newest(run, self.module)
        if not newest:
            raise Failure(f"{run.name}: the training left no checkpoint", log=run.log(number))
        if not stop or newest.step < stop or newest.step == total:
            run.update(trained_steps=newest.step)

    def export(self, step: int, target: Path) -> None:
        """Make a model directory of the checkpoint of a step."""
        run, plan = self.run, self.plan(1)
        places = paths(self.loaded.recipe, run.path, self.python)
        command = self.module.export(self.loaded.recipe, self.topology, places, target, step)
        log = target.with_name("export.log")
        _call(run, plan, command, f"making a model of step {step}", log, run.mark("eval"))


def _newest(run: Run, module: Backend) -> Checkpoint | None:
    return next(iter(module.checkpoints(run.path / "checkpoints")), None)


def _enough_rows(loaded: LoadedRecipe, data: PreparedData) -> None:
    batch, rows = loaded.recipe.training.global_batch_size, data.train_rows or 0
    if rows < batch:
        place = ("training", "global_batch_size")
        raise UserError(
            loaded.document.problem(place, f"{batch} is more than the {rows} training rows; at most {rows}")
        )


def _record_start(run: Run, plan: Plan, number: int, resume: Checkpoint | None, topology: Topology) -> None:
    manifest = run.read()
    attempt = {
        "number": number,
        "started": rundir.now(),
        "argv": list(plan.argv),
        "env": dict(plan.env),
        "metrics": plan.metrics,
        "resume_from": resume.step if resume else None,
    }
    run.update(
        state="running",
        reason="",
        started=manifest.get("started") or rundir.now(),
        topology=plain(asdict(topology)),
        versions=environments.versions(environment(manifest["backend"], topology.device)),
        data=read_json(run.accounting),
        attempts=[*manifest["attempts"], attempt],
    )


def launch(
    run: Run,
    plan: Plan,
    module: Backend,
    recipe: Recipe,
    topology: Topology,
    number: int,
    also: Callable[[], None] = lambda: None,
) -> int | None:
    """Run the plan's training with live progress; returns the number of steps of the whole, where the backend told it.

    Raises:
        Failure: it ended with another exit code than 0, or its loss is no number.
    """
    log = run.log(number, topology.node_rank)
    progress = Progress(_tokens_per_step(run, recipe))
    follow = metrics.Splicer(run.path / plan.metrics, run.metrics, module, progress.step, progress.begin)

    def poll() -> None:
        if topology.node_rank == 0:  # one node keeps the metrics of all
            follow()
            also()

    try:
        _call(run, plan, plan.argv, plan.backend, log, run.mark(topology.node_rank), poll)
    finally:
        progress.close()
    if follow.bad:
        raise Failure(
            f"{run.name}: the loss is not a number from step {follow.bad} on",
            cause="the training diverged; lower training.learning_rate, or set training.precision: bf16 or fp32",
            log=log,
        )
    return progress.total or None


def _nothing() -> None:
    pass


def _call(
    run: Run, plan: Plan, command: Sequence[str], what: str, log: Path, mark: str, poll: Callable[[], None] = _nothing
) -> None:
    code = process.run(command, cwd=run.path, env=child_environment(plan), log=log, mark=mark, poll=poll)
    if code:
        cause = diagnose.cause(diagnose.tail(log, 400), code)
        raise Failure(f"{run.name}: {what} ended with exit code {code}", cause=cause, tail=diagnose.tail(log), log=log)


def child_environment(plan: Plan) -> dict[str, str]:
    path = ":".join(filter(None, [str(code_directory()), plan.env.get("PYTHONPATH", "")]))
    env = clean_environment({**plan.env, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"})
    for name in plan.unset:
        env.pop(name, None)
    return env


def _tokens_per_step(run: Run, recipe: Recipe) -> float:
    if recipe.method == "grpo":
        return 0.0  # what a step takes depends on the replies
    accounting = read_json(run.accounting)
    rows = accounting["trained"]
    return float(accounting["tokens"]) / rows * recipe.training.global_batch_size if rows else 0.0


def _finish(run: Run, attempt: _Attempt, scorer: Scorer) -> None:
    """Make `model/` and judge the run by it: an exit code of 0 proves nothing."""
    manifest = run.read()
    log, plan = run.log(len(manifest["attempts"])), attempt.plan(1)
    newest, step = _newest(run, attempt.module), scorer.chosen_step()
    if step is not None and (manifest.get("ended_early") or (newest and step != newest.step)):
        attempt.export(step, run.model)
    elif plan.export:
        _call(run, plan, plan.export, "making model/", log, run.mark())
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


def _end(run: Run, state: str, reason: str = "") -> None:
    manifest = run.read()
    attempts: list[dict[str, Any]] = manifest["attempts"]
    if attempts:
        attempts[-1] |= {"ended": rundir.now(), "state": state}
    run.update(state=state, finished=rundir.now(), reason=reason, attempts=attempts)


def _take_part(run: Run, loaded: LoadedRecipe, topology: Topology, options: Options, python: Path) -> Run:
    """A node other than the first: everything is prepared, only the training is started."""
    number = nodes.join(run, topology, options.say)
    recipe, module = loaded.recipe, backend(loaded.recipe.backend)
    data = prepare(run, recipe, python, model_path(recipe), options.say)
    resume = _newest(run, module)
    plan = make_plan(loaded, topology, run.path, data=data, python=python, attempt=number, resume=resume)
    with process.signals_raise():
        launch(run, plan, module, recipe, topology, number)
    return run
