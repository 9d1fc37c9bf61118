"""Checks a recipe against its backend and these machines, and makes its plan; what `validate` and `plan` load.

They must feel instant, so what only a run needs is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adapters import backend
from adapters.contract import Checkpoint, Paths, Plan, PreparedData, Topology
from adapters.ledger import native
from adapters.refusals import unsupported
from recipes import LoadedRecipe, Recipe, UserError
from runner.machine.bundled import located
from runner.machine.topology import topology


def machines_of(loaded: LoadedRecipe) -> Topology:
    """The machines that a recipe trains on: those of the environment, less what it is scored on meanwhile."""
    return topology(without=loaded.recipe.eval.devices)


def check(loaded: LoadedRecipe, machines: Topology) -> None:
    """Raise UserError with everything that the backend refuses, and how these machines cannot be scored on."""
    problems = unsupported(loaded) or backend(loaded.recipe.backend).problems(loaded, machines)
    judged = loaded.recipe.eval
    if judged.mode == "pause" and machines.nodes > 1:
        text = "pause stops one node; allowed on several: after, concurrent"
        problems.append(loaded.document.problem(("eval", "mode"), text))
    if judged.mode == "concurrent" and machines.gpus and not judged.devices:
        text = "mode: concurrent needs the ids of GPUs to score on, which training then leaves free"
        problems.append(loaded.document.problem(("eval", "devices"), text))
    if problems:
        raise UserError(*problems)


def make_plan(
    loaded: LoadedRecipe,
    topology: Topology,
    run: Path,
    *,
    data: PreparedData | None = None,
    python: Path | None = None,
    attempt: int = 1,
    resume: Checkpoint | None = None,
    stop: int | None = None,
) -> Plan:
    """The plan of a checked recipe; nothing is built, read or started."""
    from runner.machine.environments import environment

    recipe = loaded.recipe
    places = paths(recipe, run, python or environment(recipe.backend, topology.device).python, snapshot=bool(python))
    rows = data or PreparedData()
    plan = backend(recipe.backend).plan(recipe, topology, rows, places, attempt=attempt, resume=resume, stop=stop)
    return replace(plan, ledger=(*plan.ledger, *native(recipe)), notes=(*loaded.chosen, *plan.notes))


def plan_of(
    loaded: LoadedRecipe,
    runs_dir: Path,
    name: str | None = None,
    *,
    as_json: bool = False,
    machines: Topology | None = None,
    more: Mapping[str, object] | None = None,
) -> str:
    """Check a recipe and return its plan, for a person or as JSON.

    Args:
        machines: those of a launch; None: these.
        more: what else the JSON holds.

    Raises:
        UserError: everything that the backend refuses.
    """
    from runner.fit import estimate
    from runner.runs import show
    from runner.training.micro_batch import settled

    machines = machines or machines_of(loaded)
    loaded = settled(loaded, machines)
    check(loaded, machines)
    run = runs_dir.resolve() / (name or loaded.recipe.name)
    plan = make_plan(loaded, machines, run)
    fit = estimate.estimate(loaded.recipe, machines, runs_dir)
    if as_json:
        return show.plan_json(plan, loaded.recipe, machines, estimate.as_json(fit), more)
    lines = [f"fits:      {fit}"] if isinstance(fit, str) else estimate.short(fit)
    return show.plan_text(plan, loaded.recipe, machines, run, lines)


AFTER = "then, with the weights of the stage before in the place of the model's own:"


def plans_of(
    stages: Sequence[tuple[LoadedRecipe, str | None]],
    runs_dir: Path,
    before: str = "what the stage before has made",
    *,
    as_json: bool = False,
) -> str:
    """The plans of a recipe's stages, each with the name of its run; of one without stages, its own.

    Args:
        before: what a first stage scores that trains nothing.

    Raises:
        UserError: everything that the backend refuses.
    """
    texts: list[str] = []
    for loaded, name in stages:
        own = name or loaded.recipe.name
        if loaded.scoring:
            text = _scoring(loaded, runs_dir.resolve() / own, before, as_json=as_json)
        else:
            text, before = plan_of(loaded, runs_dir, name, as_json=as_json), own
        texts.append(text if as_json or not texts else f"{'then:' if loaded.scoring else AFTER}\n{text}")
    if as_json:
        return texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"
    return "\n\n".join(texts)


def _scoring(loaded: LoadedRecipe, directory: Path, run: str, *, as_json: bool) -> str:
    """What a stage does that trains nothing."""
    import json

    from runner.training.micro_batch import settled

    machines = machines_of(loaded)
    check(settled(loaded, machines), machines)
    suites = list(loaded.recipe.eval.suites or ("perplexity",))
    if as_json:
        values = {"name": directory.name, "method": "eval", "scores": run, "suites": suites, "output": str(directory)}
        return json.dumps(values, ensure_ascii=False, indent=1)
    return f"{directory.name}: trains nothing; scores {run}\nsuites:    {', '.join(suites)}\nresults:   {directory}"


def paths(recipe: Recipe, run: Path, python: Path, *, snapshot: bool = True) -> Paths:
    """Where a run's things lie; without `snapshot`, our packages are not copied for children yet."""
    from runner.files import code_directory

    code = code_directory() if snapshot else Path("<code>")
    return Paths(run=run, python=python, model=located(recipe.model.path), code=code)
