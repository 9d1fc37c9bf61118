"""Launches a recipe: what `recipe launch` and `recipe plan --on` share."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import Topology
from recipes import LoadedRecipe, UserError, load, load_text
from recipes.files import write_text
from recipes.typed import read_typed, write_typed
from runner.launching import place
from runner.launching.contract import Job, Launched, Request, Say
from runner.launching.queued import RECORD, check_gone
from runner.launching.ssh import address
from runner.machine.topology import topology
from runner.runs import rundir
from runner.runs.rundir import LAUNCH, Parent, Run
from runner.runs.trust import check_links, check_trusted
from runner.training.copying import copy_recipe
from runner.training.micro_batch import settled
from runner.training.named import check_goes_on
from runner.training.parent import check_began, load_child
from runner.training.planning import check


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to launch, as the command line says it."""

    runs_dir: Path
    name: str | None = None
    resume: bool = False  # a run of that name that is there is gone on with
    trust_run: bool = False
    flags: tuple[str, ...] = ()  # of the `recipe run` on each node
    began: tuple[str, ...] = ()  # its `--from`, if any
    say: Say = print


def machines_asked(loaded: LoadedRecipe) -> Topology:
    """The machines that a recipe asks to be launched on, less what it is scored on meanwhile; node 0's."""
    launch = loaded.recipe.launch
    nodes = launch.nodes or (len(launch.ssh.hosts) if launch.on == "ssh" else 1)
    first = address(launch.ssh.hosts[0]) if launch.on == "ssh" else "node-0"
    env = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(launch.gpus))), "NNODES": str(nodes), "MASTER_ADDR": first}
    env |= {name: launch.env[name] for name in ("NPROC_PER_NODE", "MASTER_ADDR", "MASTER_PORT") if name in launch.env}
    return topology(env, without=loaded.recipe.eval.devices)


def began(parent: Parent, *, merged: bool) -> tuple[str, ...]:
    """The words of `recipe run` that say with which weights a run begins: that step, should its run go on meanwhile."""
    step = "" if parent.step is None else f":{parent.step}"
    return ("--from", f"{parent.run}{step}", *(["--merged"] if merged else []))


def recorded(run: Path, parent: str | None, *, merged: bool) -> tuple[str, ...]:
    """The words of `began` that an earlier launch in a run's directory has left, which hold for the next one too.

    Args:
        parent, merged: what is asked for now, which may be nothing.

    Raises:
        UserError: other weights are asked for.
    """
    file = run / LAUNCH / RECORD
    try:
        before = read_typed(Launched, file).began if file.is_file() else ()
    except ValueError as error:
        raise UserError(f"{file}: damaged: {error}; give the new run another --name") from None
    if (run / "run.json").is_file():
        if parent:
            check_began(Run(run), parent, run.parent, merged=merged)
    elif parent or merged:
        kept = before[1] if before else ""
        places = {str(path.resolve()) for path in (Path(parent or ""), run.parent / (parent or ""))}
        if not places & {kept, kept.rpartition(":")[0]} or merged != ("--merged" in before):
            was = " ".join(before) or "no --from"
            raise UserError(f"{run.name} was launched with {was}; leave --from out, or give the new run another --name")
    return before


def load_again(recipe: str, overrides: Sequence[str], run: Path, began: Sequence[str]) -> LoadedRecipe:
    """The recipe of a directory that is there, which goes on with what it was launched with.

    Raises:
        UserError: this recipe is another.
    """
    kept, child = run / LAUNCH / f"{run.name}.yaml", bool(began)
    if kept.is_file():
        before = load_text(kept.read_bytes(), kept, sources_needed=False)
    elif (run / "run.json").is_file():
        before, child = Run(run).recipe(), Run(run).read().parent is not None
    else:
        return load(recipe, overrides)
    loaded = load_child(recipe, overrides, before) if child else load(recipe, overrides)
    check_goes_on(run, before, loaded, child=child)
    return loaded


def request(loaded: LoadedRecipe, run: Path, flags: Sequence[str] = (), began: Sequence[str] = ()) -> Request:
    """What is launched of a recipe, checked against the machines that it asks for.

    Raises:
        UserError: no place is named, or the backend refuses the recipe on these machines.
    """
    if loaded.recipe.launch.on is None:
        raise UserError("where to launch? give --on slurm, --on ssh or --on skypilot, or launch.on in the recipe")
    machines = machines_asked(loaded)
    check(settled(loaded, machines), machines)
    return Request(loaded=loaded, run=run, machines=machines, flags=tuple(flags), began=tuple(began))


def job(asked: Request) -> Job:
    """What its place makes of a request.

    Raises:
        UserError: something of it cannot be said there.
    """
    return place(str(asked.launch.on)).job(asked)


def launch_text(asked: Request, made: Job) -> str:
    """The files and commands of a launch, for a person."""
    where, launch = asked.machines, asked.launch
    kind = _number(where.gpus, "GPU") if where.gpus else _number(where.processes, "CPU process")
    lines = [f"launch on {launch.on}: {_number(where.nodes, 'node')}, {kind} each", f"run: {asked.run}"]
    for name, text in made.files.items():
        lines += ["", f"{LAUNCH}/{name}:", *(f"  {line}" for line in text.splitlines())]
    lines += ["", "command:", *(f"  {shlex.join(command)}" for command in made.commands)]
    return "\n".join([*lines, *(f"note: {note}" for note in made.notes)])


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}{'es' if what.endswith('s') else 's'}"


def launch_json(asked: Request, made: Job) -> dict[str, object]:
    """The same for a program."""
    commands = [list(command) for command in made.commands]
    return {"on": asked.launch.on, "files": dict(made.files), "commands": commands, "notes": list(made.notes)}


def start(loaded: LoadedRecipe, options: Options) -> Run:
    """Launch a recipe; where the place tells of its end (ssh), return after it.

    Raises:
        UserError, Failure: it cannot be launched; a directory that was made for it is gone again.
    """
    name = options.name or loaded.recipe.name
    path = options.runs_dir.resolve() / name
    there = options.resume and path.is_dir()
    asked = request(loaded, path, options.flags, options.began)
    made = job(asked)
    if there:
        _check_free(Run(path), options)
    else:
        path = rundir.make_directory(path.parent, name, exact=options.name is not None or options.resume)
        asked = request(loaded, path, options.flags, options.began)
        made = job(asked)
    options.say(f"run: {path}")
    try:
        asked.directory.mkdir(exist_ok=True)
        if not asked.recipe_file.is_file():
            copy_recipe(loaded, asked.recipe_file)
        for file, text in made.files.items():
            write_text(asked.directory / file, text)
        _record(asked, "")
        number = place(str(asked.launch.on)).start(asked, made, options.say)
    except BaseException:
        said = any(file.stat().st_size for file in asked.directory.glob("*.log"))
        if not there and not said and not (path / "run.json").exists():
            shutil.rmtree(path)
        raise
    _record(asked, number)
    return Run(path)


def _record(asked: Request, number: str) -> None:
    recipe = asked.loaded.recipe
    launched = Launched(
        on=str(asked.launch.on),
        id=number,
        recipe=str(asked.loaded.path.resolve()),
        overrides=asked.loaded.overrides,
        backend=recipe.backend,
        method=recipe.method,
        tuning=recipe.tuning.type,
        created=rundir.now(),
        began=asked.began,
    )
    write_typed(asked.directory / RECORD, launched)


def _check_free(run: Run, options: Options) -> None:
    """A run can be gone on with: nobody works on it, it waits in no queue, and it is the user's own."""
    check_links(run)
    check_gone(run, options.say)
    if (run.path / "run.json").is_file():
        if run.state() in ("running", "prepared"):
            raise UserError(f"{run.name} is {run.state()} already; stop it first, or wait")
        check_trusted(run, run.recipe().recipe, "resume", trusted=options.trust_run)
