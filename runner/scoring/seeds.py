"""Which runs are one training with several seeds: all that it follows from is equal, but for `training.seed`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from eval.report.results import FILE
from recipes import UserError
from recipes.typed import to_json
from runner.runs.rundir import Run, find, runs

SAID = ("name", "description", "logging")  # no weight follows from these
OF_PARENT = ("path", "adapter_path", "revision", "tokenizer", "chat_template")  # of `model`, which `--from` sets
DEEPEST = 20  # parents of parents that are followed


def seed_name(name: str, seed: int) -> str:
    """What `recipe run --seeds` calls the run of a seed."""
    return f"{name}-seed-{seed}"


def trained_as(run: Run, *, depth: int = 0) -> str:
    """A hash of the resolved recipe without its seed, of the prepared rows, and of what the parent was trained as.

    Raises:
        UserError: the run is damaged.
    """
    manifest, recipe = run.read(), run.recipe().complete()
    told = {field: value for field, value in recipe.items() if field not in SAID}
    told["training"] = {field: value for field, value in recipe["training"].items() if field != "seed"}
    parent = ""
    if manifest.parent:
        told["model"] = {field: value for field, value in recipe["model"].items() if field not in OF_PARENT}
        parent = _parent(Path(manifest.parent.run), manifest.parent.id, depth) or manifest.parent.hash
    # The row files alone: how Arrow lays out what is made of them may differ.
    data = manifest.conditions.data if manifest.conditions else {}
    rows = {file: digest for file, digest in data.items() if file.endswith(".jsonl")}
    text = json.dumps([to_json(told), rows, parent], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _parent(directory: Path, number: str, depth: int) -> str:
    """What a parent that is still there was trained as; empty where it is another run by now."""
    if depth >= DEEPEST or not (directory / "run.json").is_file():
        return ""
    run = Run(directory)
    try:
        return trained_as(run, depth=depth + 1) if run.read().id == number else ""
    except UserError:  # damaged since: what is left to tell it by is the hash of its weights
        return ""


def with_seeds(chosen: Sequence[Run]) -> list[Run]:
    """The runs, and beside each those of its directory that were scored and differ in the training seed alone."""
    found = {run.path: run for run in chosen}
    for run in chosen:
        own, seeds = trained_as(run), {run.recipe().recipe.training.seed}
        for other in runs(run.path.parent):
            seed = None if other.path in found else _seed_of_sibling(other, run, own)
            if seed is not None and seed not in seeds:
                seeds.add(seed)
                found[other.path] = other
    return list(found.values())


def _seed_of_sibling(other: Run, run: Run, own: str) -> int | None:
    """The seed of a scored run that was trained as another one was; None of any other run."""
    if not (other.path / "eval" / FILE).is_file() or other.state_or_damaged() != "succeeded":
        return None
    one, two = run.read(), other.read()
    if (one.backend, one.method, one.tuning) != (two.backend, two.method, two.tuning):  # known without its recipe
        return None
    try:
        return other.recipe().recipe.training.seed if trained_as(other) == own else None
    except UserError:  # its recipe is damaged, or none of this version: nobody knows what it was trained as
        return None


def named(name: str, directory: Path) -> list[Run]:
    """The run of a name; where there is none, the runs of its seeds.

    Raises:
        UserError: there is neither.
    """
    try:
        return [find(name, directory)]
    except UserError:
        found = [run for run in runs(directory) if run.name.rpartition("-seed-")[0] == name]
        found = [run for run in found if run.name.rpartition("-")[2].isdigit()]
        if not found:
            raise
        return found
