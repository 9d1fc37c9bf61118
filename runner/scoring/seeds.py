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
    return trained_as(run, depth=depth + 1) if run.read().id == number else ""


def with_seeds(chosen: Sequence[Run]) -> list[Run]:
    """The runs, and beside each those of its directory that were scored and differ in the training seed alone."""
    found = {run.path: run for run in chosen}
    for run in chosen:
        own, seeds = trained_as(run), {run.recipe().recipe.training.seed}
        for other in runs(run.path.parent):
            if other.path not in found and (other.path / "eval" / FILE).is_file() and _alike(other, own, seeds):
                found[other.path] = other
    return list(found.values())


def _alike(other: Run, own: str, seeds: set[int]) -> bool:
    if other.state_or_damaged() != "succeeded":
        return False
    seed = other.recipe().recipe.training.seed
    if seed in seeds or trained_as(other) != own:
        return False
    seeds.add(seed)
    return True


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
