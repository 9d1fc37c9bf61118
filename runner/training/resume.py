"""Goes on with a run that was stopped, or again from one of its checkpoints."""

from __future__ import annotations

from adapters.contract import Topology
from recipes import UserError
from recipes.files import remove_temporaries
from runner.machine import process
from runner.machine.topology import check_present
from runner.runs import rundir
from runner.runs.claim import Claimed, claim
from runner.runs.rundir import Run
from runner.runs.trust import check_links, check_trusted
from runner.training.back import check_back, go_back
from runner.training.planning import check
from runner.training.train import Options, ready_python, take_part, train


def resume_run(run: Run, topology: Topology, options: Options) -> Run:
    """Go on with a run from its newest whole checkpoint, or from the one that the options name.

    Raises:
        UserError: it is running, has succeeded, or asks for what this user has not agreed to.
    """
    check_links(run)
    loaded = run.recipe()
    check_trusted(run, loaded.recipe, "resume", trusted=options.trust_run)
    if options.from_step is not None:
        check_back(run, options.from_step)
    check(loaded, topology)
    check_present(topology)
    python = ready_python(loaded.recipe, topology, options)
    if topology.node_rank:
        return take_part(run, loaded, topology, options, python)
    try:
        with claim(run.path, take_over=options.take_over):
            if options.from_step is None and run.read().state == "succeeded":
                text = f"{run.name} has succeeded: there is nothing to resume; its model is {run.model}"
                raise UserError(f"{text} (`recipe eval {run.name}` evaluates it)")
            left = process.end_all(run.mark(topology.node_rank)) + process.end_all(run.mark("eval"))
            if left:
                pids = ", ".join(map(str, left))
                options.say(f"ended {len(left)} processes that the last attempt left behind: {pids}")
            remove_temporaries(run.path)
            if options.from_step is not None:
                go_back(run, options.from_step, options.say)
            run.update(runner=rundir.myself(), state="prepared")
            return train(run, loaded, topology, options, python)
    except Claimed as error:
        runner = run.read().runner
        raise UserError(
            f"{run.name} is running (pid {runner.pid} on {runner.host}): {error}; stop it first, or wait",
            f"if that process is gone for certain: recipe resume {run.name} --take-over",
        ) from None
