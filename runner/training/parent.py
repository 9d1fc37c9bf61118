"""A run that begins with the weights of another: which they are, and what its recipe says of the model by them.

    parent trained        child trains an adapter         child trains otherwise, or --merged
    an adapter            the same adapter, further       the adapter merged into its base
    all weights           a new adapter on them           these weights

The optimizer and the schedule are new. Tokenizer and chat template are the parent's, and so is the base that an adapter
is scored on: what `model/` of the child is an adapter of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from adapters import backend
from eval.hashes import model_hash
from recipes import LoadedRecipe, Recipe, UserError, load
from recipes.files import read_json
from recipes.methods import METHODS
from recipes.model_files import adapter_settings
from recipes.typed import read_typed, to_json
from runner.data.spec import Accounting
from runner.machine import process
from runner.runs.checkpoints import checkpoint_of, whole_checkpoints
from runner.runs.merge import is_merged, merge, whole_model
from runner.runs.rundir import Parent, Run, find
from runner.runs.trust import check_links, check_trusted
from runner.training.attempt import Training
from runner.training.planning import machines_of
from runner.training.prepare import counts
from runner.training.train import Options, ready_python


def child_of(
    name: str, overrides: Sequence[str], parent: str, options: Options, *, merged: bool = False, make: bool = True
) -> tuple[LoadedRecipe, Parent]:
    """A recipe with its `model` section set by another run, and what is taken of that.

    Args:
        name, overrides: of the recipe, as `load` takes them.
        parent: RUN or RUN:STEP, by name or directory.
        merged: take an adapter merged into its base, whatever the recipe trains.
        make: export and merge what is not there yet; without, that is an error.

    Raises:
        UserError: no such run or step, no whole weights, a recipe that does not go with them.
        Failure: an export or a merge failed.
    """
    run, step = named(parent, options.runs_dir)
    check_links(run)
    manifest, own = run.read(), run.recipe().recipe
    check_trusted(run, own, "run", trusted=options.trust_run)
    asked = load(name, [*overrides, _set("model.path", own.model.path)])
    if METHODS[own.method].scores and not METHODS[asked.recipe.method].scores:
        text = f"{run.name} made a reward model, and its head would be lost; begin with the run that it began with"
        raise UserError(f"method: {asked.recipe.method} trains a model that writes: {text}")
    if make and machines_of(asked).nodes > 1:
        make = False  # several would write the same files
    weights = weights_of(run, step, options, make=make)
    adapter = own.tuning.type == "lora"
    merged = adapter and (merged or merges(own, asked.recipe))
    if merged:
        weights = merged_of(run, weights, options, make=make)
        options.say(f"{run.name} trained an adapter, which is taken merged into its base: {weights}")
    loaded = with_weights(name, overrides, asked, own, weights, adapter=adapter and not merged, say=options.say)
    kind = "merged" if merged else "adapter" if adapter else "model"
    taken = Parent(
        run=str(run.path),
        id=manifest.id,
        step=manifest.model_step if step is None else step,
        kind=kind,  # type: ignore[arg-type]
        path=str(weights),
        hash=model_hash(weights),
    )
    options.say(f"weights: {kind} of {run.name}{'' if taken.step is None else f' at step {taken.step}'}, {weights}")
    return loaded, taken


def merges(own: Recipe, asked: Recipe) -> bool:
    """Whether the adapter that a recipe trains is merged for the one after it: no other would train it further."""
    whole = any(one.tuning.modules_to_save or one.model.add_tokens for one in (own, asked))
    return whole or asked.tuning.type != "lora" or asked.method == "grpo"


def with_weights(
    name: str,
    overrides: Sequence[str],
    asked: LoadedRecipe,
    own: Recipe,
    weights: Path,
    *,
    adapter: bool,
    say: Callable[[str], None],
) -> LoadedRecipe:
    """A recipe with the weights that another one has made, in the place of its own model.

    Args:
        asked: the recipe as `load` has it without them.
        own: what has made the weights.
        adapter: whether they are an adapter that is trained further.

    Raises:
        UserError: it does not go with them.
    """
    sections = list(_sections(own, weights, adapter))
    if new := asked.recipe.model.add_tokens:
        known = _added(weights)
        sections.append(("model.add_tokens", [token for token in new if token not in known]))
    given = {field: _given(asked, field) for field, _ in sections}
    for field, value in sections:
        named = field.startswith("model.") and field not in ("model.path", "model.add_tokens")
        if named and given[field] not in (None, value):
            say(f"note: {field}: {given[field]!r} of the recipe is not taken: it is that of the weights, {value!r}")
    wanted = [
        _set(field, value)
        for field, value in sections
        if not (field.startswith("tuning.") and given[field] is not None)
    ]
    return load(name, [*overrides, *wanted])


def _added(weights: Path) -> set[str]:
    """The tokens that the tokenizer beside weights has over its vocabulary."""
    file = weights / "tokenizer.json"
    return {one["content"] for one in read_json(file)["added_tokens"]} if file.is_file() else set()


def load_child(name: str, overrides: Sequence[str], there: LoadedRecipe) -> LoadedRecipe:
    """The recipe of a child that is there, whose own model need not be on this machine."""
    return load(name, [*overrides, _set("model.path", there.recipe.model.path)])


def _set(field: str, value: Any) -> str:
    return f"{field}={json.dumps(to_json(value), ensure_ascii=False)}"


def _given(loaded: LoadedRecipe, field: str) -> Any:
    section, _, leaf = field.partition(".")
    found = loaded.document.value.get(section, {})
    return found.get(leaf) if isinstance(found, dict) else None


def named(text: str, directory: Path) -> tuple[Run, int | None]:
    """The run and the step of RUN or RUN:STEP."""
    name, colon, step = text.rpartition(":")
    if colon and step.isascii() and step.isdigit():
        return find(name, directory), int(step)
    return find(text, directory), None


def check_began(run: Run, text: str, directory: Path, *, merged: bool) -> None:
    """Hold `--from` beside what a run has begun with, whether that is still there or not.

    Args:
        text: RUN or RUN:STEP.
        directory: of the runs.

    Raises:
        UserError: the run began with other weights.
    """
    parent = run.read().parent
    if parent:
        places = {str(path.resolve()) for path in (Path(text), directory / text)}
        if places & {parent.run, f"{parent.run}:{parent.step}"} and (parent.kind == "merged" or not merged):
            return
    began = f"{parent.kind} of {parent.run} at step {parent.step}" if parent else "its recipe's own model"
    raise UserError(f"--from {text}: {run.name} began with {began}; leave it out, or give the new run another --name")


def _sections(own: Recipe, weights: Path, adapter: bool) -> Iterator[tuple[str, Any]]:
    """Fields of the child, and the parent's values."""
    model = own.model
    yield "model.path", model.path if adapter else str(weights)
    yield "model.revision", model.revision if adapter else None
    yield "model.adapter_path", str(weights) if adapter else None
    # The files beside the weights hold what the parent was trained with, wherever it came from.
    yield "model.tokenizer", str(weights) if adapter and model.tokenizer else None
    template = weights / "chat_template.jinja"
    yield "model.chat_template", str(template) if adapter and model.chat_template and template.is_file() else None
    if model.chat_template_kwargs:
        yield "model.chat_template_kwargs", dict(model.chat_template_kwargs)
    if model.trust_remote_code:
        yield "model.trust_remote_code", True
    if adapter:
        try:
            settings = adapter_settings(weights)
        except ValueError as error:
            raise UserError(f"{error}") from None
        yield from ((f"tuning.{field}", value) for field, value in settings.items() if field != "target_modules")
        yield "tuning.target_modules", own.tuning.target_modules


def weights_of(run: Run, step: int | None, options: Options, *, make: bool) -> Path:
    """A directory of the weights of a step, by default of the finished run's.

    Args:
        make: export what is not there yet; without, that is an error.

    Raises:
        UserError: no whole checkpoint of that step, or a run that has not succeeded.
        Failure: the export failed.
    """
    manifest = run.read()
    if step is None and manifest.state != "succeeded":
        steps = ", ".join(str(one.step) for one in reversed(whole_checkpoints(run))) or "none"
        raise UserError(f"{run.name} has state {run.state()}: name a step, {run.name}:STEP; whole checkpoints: {steps}")
    if step is None or (manifest.state == "succeeded" and step == manifest.model_step):
        if not any(run.model.glob("*.safetensors")):
            raise UserError(f"{run.model} holds no weights; name a step, {run.name}:STEP")
        return run.model
    checkpoint_of(run, step)
    # A checkpoint that was made again after the run went back is another one of the same step.
    number = next((one.number for one in reversed(manifest.attempts) if (one.resume_from or 0) < step), 0)
    target = run.path / "exports" / f"step-{step}-attempt-{number}"
    if not target.is_dir():
        if not make:
            raise UserError(_not_made(f"step {step} of {run.name} is not a model's directory yet"))
        loaded = run.recipe()
        training = Training(
            run=run,
            loaded=loaded,
            topology=manifest.topology,
            python=ready_python(loaded.recipe, manifest.topology, options),
            data=counts(read_typed(Accounting, run.accounting)),
            module=backend(loaded.recipe.backend),
            say=options.say,
        )
        target.parent.mkdir(exist_ok=True)
        options.say(f"making a model's directory of step {step} of {run.name}: {target}")
        with process.signals_raise():
            training.export(step, target, f"export-{step}")  # somebody may evaluate the run meanwhile
    return target


def merged_of(run: Run, adapter: Path, options: Options, *, make: bool) -> Path:
    """A directory of a run's adapter merged into its base.

    Args:
        make: merge where that is not done yet; without, that is an error.

    Raises:
        UserError, Failure: as `merge`.
    """
    target = run.path / "merged" if adapter == run.model else adapter.with_name(f"{adapter.name}-merged")
    if is_merged(target, adapter):
        return target
    if not make:
        raise UserError(_not_made(f"the adapter {adapter} is not merged into its base yet"))
    if adapter == run.model:
        return whole_model(run, options.say, trusted=options.trust_run)
    return merge(run, target, options.say, trusted=options.trust_run, adapter=adapter)


def _not_made(what: str) -> str:
    return f"{what}; `recipe run` on one machine makes it, `plan`, `--dry-run` and runs on several nodes do not"
