"""Goes on with a run that was stopped, or again from one of its checkpoints."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from adapters import backend
from adapters.contract import Topology
from recipes import LoadedRecipe, UserError, load_text
from recipes.files import remove_temporaries, write_text
from recipes.stages import HEAD
from runner.machine import bundled, environments, process
from runner.machine.environments import environment
from runner.machine.topology import check_present
from runner.runs import rundir
from runner.runs.checkpoints import whole_checkpoints
from runner.runs.claim import Claimed, claim
from runner.runs.rundir import Run, resolved_yaml
from runner.runs.trust import check_links, check_trusted, is_own, remember
from runner.training import longer
from runner.training.attempt import total_steps
from runner.training.back import check_back, go_back
from runner.training.conditions import differences, trains_otherwise
from runner.training.planning import check
from runner.training.prepare import prepare
from runner.training.train import Options, ready_python, take_part, train


def resume_run(run: Run, topology: Topology, options: Options) -> Run:
    """Go on with a run from its newest whole checkpoint, or from the one that the options name.

    Raises:
        UserError: it is running, has succeeded, asks for what this user has not agreed to, or would go on otherwise
            than it began.
    """
    check_links(run)
    own, loaded = is_own(run), recipe_asked(run, options)
    check_trusted(run, loaded.recipe, "resume", trusted=options.trust_run)
    step = _step(run, options)
    if step is not None:
        check_back(run, step, longer=bool(options.more_epochs))
    check(loaded, topology)
    check_present(topology)
    python = ready_python(loaded.recipe, topology, options)
    if topology.node_rank:
        return take_part(run, loaded, topology, options, python)
    try:
        with claim(run.path, take_over=options.take_over, wait_s=options.wait_s):
            if step is None and run.read().state == "succeeded":
                text = f"{run.name} has succeeded: there is nothing to resume; its model is {run.model}"
                raise UserError(f"{text} (`recipe eval {run.name}` evaluates it)")
            left = process.end_all(run.mark(topology.node_rank)) + process.end_all(run.mark("eval"))
            if left:
                pids = ", ".join(map(str, left))
                options.say(f"ended {len(left)} processes that the last attempt left behind: {pids}")
            remove_temporaries(run.path)
            check_as_before(run, loaded, topology, options, python)
            if options.more_epochs and step is not None:
                for text in longer.said(run.recipe().recipe, loaded.recipe, longer.rows_of(run), step):
                    options.say(text)
            if options.dry_run:
                options.say(f"would go on from step {_newest(run) if step is None else step}; nothing was touched")
                return run
            # The recipe first: after a kill between the two, the run's files say how long it is to be.
            _keep_recipe(run, loaded, own=own or is_own(run))
            if step is not None:
                go_back(run, step, options.say, longer=bool(options.more_epochs))
            run.update(runner=rundir.myself(), state="prepared")
            return train(run, loaded, topology, options, python)
    except Claimed as error:
        runner = run.read().runner
        raise UserError(
            f"{run.name} is running (pid {runner.pid} on {runner.host}): {error}; stop it first, or wait",
            f"if that process is gone for certain: recipe resume {run.name} --take-over",
        ) from None


def _step(run: Run, options: Options) -> int | None:
    """The step that a resume goes back to; None: it goes on with what the last attempt left.

    Raises:
        UserError: the training is to be longer, and no checkpoint is there to go on from.
    """
    if options.from_step is not None or not options.more_epochs:
        return options.from_step
    newest = _newest(run)
    if newest is None:
        text = f"{run.name} has no whole checkpoint to go on from, and no optimizer's state without one"
        raise UserError(f"{text}; begin another run with its weights: recipe run RECIPE --from {run.name}")
    return newest


def _newest(run: Run) -> int | None:
    return next((one.step for one in whole_checkpoints(run)), None)


def recipe_asked(run: Run, options: Options) -> LoadedRecipe:
    """The run's own recipe, with what the command line says otherwise.

    Raises:
        UserError: it is no recipe, or not with these overrides.
    """
    own, asked = run.recipe(), options.overrides
    file = run.path / "recipe.resolved.yaml"
    if options.more_epochs:
        if asked and _length(load_text(file.read_bytes(), file, asked, sources_needed=False)) != _length(own):
            text = "what --set says of training.epochs or training.max_steps would have no effect; take one of them out"
            raise UserError(f"--more-epochs {options.more_epochs}: {text}")
        asked = (*asked, *longer.overrides(run, own.recipe, options.more_epochs))
    if not asked:
        return own
    return load_text(file.read_bytes(), file, asked, sources_needed=False)


def _length(loaded: LoadedRecipe) -> tuple[float, int | None]:
    return loaded.recipe.training.epochs, loaded.recipe.training.max_steps


def check_as_before(run: Run, loaded: LoadedRecipe, topology: Topology, options: Options, python: Path) -> None:
    """Name each difference from the run's last start.

    Raises:
        UserError: some change the result and are not accepted, or cannot be had on a resume at all.
    """
    if options.from_step is None and not options.more_epochs:
        _check_trained(run, loaded)
    if run.read().trained_steps is not None and options.from_step is None and not loaded.overrides:
        return  # nothing is trained any more: what is left is to make model/
    given, kept = Path(run.read().recipe), run.path / "recipe.yaml"
    whole = kept.is_file() and not kept.read_bytes().startswith(HEAD.encode())  # a stage's is its own text
    if whole and given.is_file() and given.read_bytes() != kept.read_bytes():
        options.say(f"note: {given} has changed since; the run goes on with its own recipe, which --set changes")
    if run.read().attempts and not run.accounting.is_file():  # what is compared must be there
        options.say("the prepared rows of the run are gone, and are prepared again")
        prepare(run, loaded.recipe, python, bundled.located(loaded.recipe.model.path), options.say)
    versions = environments.versions_of(python, environment(loaded.recipe.backend, topology.device))
    asked = longer.FIELDS if options.more_epochs else ()
    found = differences(run, loaded, topology, versions, accepted=asked)
    if any(one.text.startswith(longer.FIELDS) for one in found):
        _check_length(run, loaded, options)
    refused = [f"  {one.text}" for one in found if one.effect == "refused"]
    changing = [f"  {one.text}" for one in found if one.effect == "result"]
    if refused:
        raise UserError(
            f"{run.name} cannot go on with other values than its checkpoints were made with:",
            *refused,
            *changing,
            f"put them back, or begin anew with its weights: recipe run RECIPE --from {run.name}",
        )
    if changing and not options.accept:
        raise UserError(
            f"{run.name} would not end as it would have without the stop; since its last start there changed",
            *changing,
            "put it back, or repeat the command with --accept to go on all the same; nothing was touched",
        )
    for text in changing:
        options.say(f"accepted:{text[1:]}")
    for one in found:
        if one.effect == "none" and not one.text.startswith(asked):
            options.say(f"note: {one.text}; what is trained stays the same")


def _check_trained(run: Run, loaded: LoadedRecipe) -> None:
    """Raise UserError where a run has come to its last step, and the recipe says otherwise how it is to be trained."""
    manifest, newest = run.read(), _newest(run) or 0
    step = manifest.trained_steps
    if step is None and newest >= (total_steps(run, backend(manifest.backend)) or math.inf):
        step = newest
    if step is not None and (told := trains_otherwise(run, loaded)):
        raise UserError(
            f"{run.name} is trained to its end, step {step}; its model is still to be made, on which has no effect",
            *(f"  {text}" for text in told),
            "put it back; --from STEP trains again from an earlier step, --more-epochs N makes the training longer",
        )


def _check_length(run: Run, loaded: LoadedRecipe, options: Options) -> None:
    """Raise UserError where a training of another length would end at its checkpoint: backends train past it."""
    step = _newest(run) if options.from_step is None else options.from_step
    total = longer.total_steps(loaded.recipe, longer.rows_of(run))
    if step is not None and step >= total:
        raise UserError(
            f"{run.name} goes on from step {step}, and with {total} steps in all nothing is left to train after it",
            f"give it more, go back with --from STEP, or take a step as it is: recipe merge {run.name}:STEP",
        )


def _keep_recipe(run: Run, loaded: LoadedRecipe, *, own: bool) -> None:
    """Write the recipe that is gone on with, and keep the one before it beside the attempts that it made."""
    file, text, manifest = run.path / "recipe.resolved.yaml", resolved_yaml(loaded), run.read()
    if loaded.overrides and text != file.read_text(encoding="utf-8"):
        shutil.copyfile(file, run.path / "backend" / f"recipe-{len(manifest.attempts)}.yaml")
        write_text(file, text)
        run.update(overrides=(*manifest.overrides, *loaded.overrides))
        if own:  # of a received run whose demands were agreed to, check_trusted has made one
            remember(run)
