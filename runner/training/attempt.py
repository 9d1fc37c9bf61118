"""One start of a backend: its plan, its processes, its metrics, and what it left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.contract import Backend, Checkpoint, Plan, PreparedData, Topology
from recipes import LoadedRecipe, Recipe
from recipes.files import write_text
from recipes.typed import read_typed
from runner.data.spec import Accounting
from runner.failure import Failure
from runner.files import code_directory
from runner.fit.estimate import Fit, estimate
from runner.fit.exceeded import exceeded
from runner.fit.utilization import mfu_of_a_token
from runner.machine import diagnose, environments, process
from runner.machine.cards import cards
from runner.machine.environments import environment
from runner.machine.process import clean_environment
from runner.runs import rundir
from runner.runs.rundir import Run
from runner.training import metrics, nodes
from runner.training.planning import make_plan, paths
from runner.training.progress import Progress

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every start of the backend in this process has in common."""

    run: Run
    loaded: LoadedRecipe
    topology: Topology
    python: Path
    data: PreparedData
    module: Backend
    say: Say

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe

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

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint."""
        return next(iter(self.module.checkpoints(self.run.path / "checkpoints")), None)

    def start(self, number: int, resume: Checkpoint | None, stop: int | None, poll: Callable[[], None]) -> None:
        """Start the backend, to step `stop` or to the end of the training."""
        run = self.run
        plan = self.plan(number, resume, stop)
        self.recover_metrics(resume.step if resume else -1)
        if resume:
            self.say(f"resuming from step {resume.step} ({resume.path.name})")
        for name, text in plan.files.items():
            write_text(run.path / name, text)
        for note in plan.notes:
            self.say(f"note: {note}")
        self._record_start(plan, number, resume)
        for command in plan.before:
            call(run, plan, command, "a step before the training", run.log(number), run.mark())
        nodes.call(run, self.topology, number, self.say)
        started = time.monotonic()
        try:
            launch(run, plan, self.module, self.recipe, self.topology, number, self.say, poll)
        except Failure as failure:
            failure.cause += self._exceeded(run.log(number))
            raise
        finally:
            manifest = run.read()
            peak = max((line["memory_gb"] for line in run.steps() if "memory_gb" in line), default=None)
            run.update(
                training_time_s=manifest.training_time_s + time.monotonic() - started,
                memory=replace(manifest.memory, peak_gb=peak),
            )
        newest = self.newest()
        if not newest:
            raise Failure(f"{run.name}: the training left no checkpoint", log=run.log(number))
        if not stop or newest.step < stop:
            run.update(trained_steps=newest.step)

    def recover_metrics(self, step: int) -> None:
        """Make metrics.jsonl whole up to the checkpoint of a step, or say that this step's line is lost."""
        earlier = [self.run.path / attempt.metrics for attempt in self.run.read().attempts]
        last = metrics.recover(
            self.run.metrics, earlier, self.module, step, rates=_rates(self.run, self.recipe, self.topology)
        )
        if step - last >= self.recipe.training.log_every:
            self.say(f"step {step} has a checkpoint but no metrics: the run was killed before they were written")

    def total_steps(self) -> int | None:
        """The steps of the whole training, as the backend told them at any start; None before that.

        Read from its files, not from memory: a runner that was killed at the last step must know, when it is back,
        that there is nothing left to train.
        """
        return total_steps(self.run, self.module)

    def _fit(self) -> Fit | None:
        """The estimate; None without a GPU, or where nothing is known of the model."""
        found = estimate(self.recipe, self.topology, self.run.path.parent) if self.topology.gpus else ""
        return None if isinstance(found, str) else found

    def _exceeded(self, log: Path) -> str:
        """Where memory of a GPU ran out: what of the estimate was exceeded."""
        last, fit = diagnose.tail(log, 400), self._fit()
        if fit is None or not diagnose.out_of_memory(last):
            return ""
        step = int(max((line["step"] for line in self.run.steps()), default=0))
        found = exceeded(last, fit, step)
        return f"\n{found}" if found else ""

    def _record_start(self, plan: Plan, number: int, resume: Checkpoint | None) -> None:
        run, manifest, fit = self.run, self.run.read(), self._fit()
        expected = fit.memory.peak / 1e9 if fit else None
        wanted = environment(manifest.backend, self.topology.device)
        attempt = rundir.Attempt(
            number=number,
            started=rundir.now(),
            argv=plan.argv,
            env=plan.env,
            metrics=plan.metrics,
            resume_from=resume.step if resume else None,
        )
        run.update(
            state="running",
            reason="",
            started=manifest.started or rundir.now(),
            topology=self.topology,
            versions=environments.versions_of(self.python, wanted),
            layers={one.name: one.requirements for one in wanted.layers if self.python == wanted.python},
            data=read_typed(Accounting, run.accounting),
            attempts=(*manifest.attempts, attempt),
            memory=rundir.MemoryUse(predicted_gb=expected),
        )
        if expected:
            self.say(f"expecting {expected:.1f} GB of tensors on each GPU (`recipe fit` says of what)")

    def export(self, step: int, target: Path, part: str = "eval") -> None:
        """Make a model directory of the checkpoint of a step; all processes of that part of the run end with it."""
        run, plan = self.run, self.plan(1)
        places = paths(self.recipe, run.path, self.python)
        command = self.module.export_command(self.recipe, self.topology, places, target, step)
        log = run.path / "logs" / f"export-{step}.log"
        call(run, plan, command, f"making a model of step {step}", log, run.mark(part))


def total_steps(run: Run, module: Backend) -> int | None:
    """As `Training.total_steps`, of a run."""
    for attempt in reversed(run.read().attempts):
        for line in metrics.raw_lines(run.path / attempt.metrics):
            total = module.total_steps(line)
            if total is not None:
                return total
    return None


def set_aside_torn(run: Run, module: Backend, say: Say) -> None:
    """Rename what a kill left of a checkpoint: no backend may choose it for itself, and none may stumble over it."""
    directory = run.path / "checkpoints"
    whole = {checkpoint.path.name for checkpoint in module.checkpoints(directory)}
    torn = [path for pattern in module.CHECKPOINTS for path in directory.glob(pattern) if path.name not in whole]
    for path in sorted(torn):
        say(f"checkpoint {path.name} is not whole, and is set aside")
        aside = next(p for n in range(1, 10_000) if not (p := path.with_name(f"torn-{n}-{path.name}")).exists())
        path.rename(aside)


def launch(
    run: Run,
    plan: Plan,
    module: Backend,
    recipe: Recipe,
    topology: Topology,
    number: int,
    say: Say,
    also: Callable[[], None] = lambda: None,
) -> None:
    """Run the plan's training with live progress.

    Raises:
        Failure: it ended with another exit code than 0, or its loss is no number.
    """
    log = run.log(number, topology.node_rank)
    progress = Progress(say)
    follow = metrics.Splicer(
        run.path / plan.metrics,
        run.metrics,
        module,
        progress.step,
        progress.begin,
        rates=_rates(run, recipe, topology),
    )

    def poll() -> None:
        if topology.node_rank == 0:  # one node keeps the metrics of all
            follow()
            also()

    try:
        call(run, plan, plan.argv, plan.backend, log, run.mark(topology.node_rank), poll)
    finally:
        progress.close()
    if follow.bad:
        raise Failure(
            f"{run.name}: the loss is not a number from step {follow.bad} on",
            cause="the training diverged; lower training.learning_rate, or set training.precision: bf16 or fp32",
            log=log,
        )


def call(
    run: Run,
    plan: Plan,
    command: Sequence[str],
    what: str,
    log: Path,
    mark: str,
    poll: Callable[[], None] = lambda: None,
) -> None:
    """Run one command of a plan.

    Raises:
        Failure: it ended with another exit code than 0; with its probable cause.
    """
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


def _rates(run: Run, recipe: Recipe, topology: Topology) -> metrics.Rates:
    rows = read_typed(Accounting, run.accounting)
    return metrics.Rates(
        supervised=rows.supervised_tokens / rows.tokens if rows.tokens else None,
        mfu=mfu_of_a_token(recipe, topology, rows, cards(topology.devices)) if topology.gpus else None,
    )
