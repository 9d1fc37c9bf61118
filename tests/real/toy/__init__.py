"""toy: a backend that trains nothing real, and has all that one must have (tests/real/test_contributing.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters import native
from adapters.contract import Checkpoint, Keeping, Metrics, Paths, Plan, PreparedData, Topology
from adapters.ledger import Entry, mapped, refused, runner, runner_fields
from adapters.refusals import refusals
from recipes import Problem, Recipe, schema
from recipes.load import LoadedRecipe

NAME = "toy"
DISTRIBUTION = "llamafactory"
METHODS: tuple[str, ...] = ("sft", "echo")
TUNINGS: tuple[str, ...] = ("lora", "full")
QUANTIZATIONS: tuple[str, ...] = ()
STRATEGIES: tuple[str, ...] = ("ddp",)
CHECKPOINTS: tuple[str, ...] = ("step-*",)
_LOCK = Path(__file__).parent.parent / "llamafactory" / "requirements.lock"
LOCKS: Mapping[str, Path] = {"cpu": _LOCK, "cuda": _LOCK}
NO_DEPS: Mapping[str, tuple[str, ...]] = {"cpu": (), "cuda": ()}

total_steps = native.total_steps


def ledger(recipe: Recipe, topology: Topology) -> list[Entry]:
    known = [*runner_fields(), mapped("training.max_steps", "steps", recipe.training.max_steps)]
    others = [leaf for leaf in schema.leaves() if leaf not in {entry.field for entry in known}]
    taken = ("model.", "eval.", "checkpoint.", "training.", "tuning.", "method", "logging", "backend_")
    return [*known, *((runner if leaf.startswith(taken) else refused)(leaf, "without effect here") for leaf in others)]


def problems(loaded: LoadedRecipe, topology: Topology) -> list[Problem]:
    return refusals(ledger(loaded.recipe, topology), loaded, topology)


def keeping(recipe: Recipe, topology: Topology) -> Keeping | str:
    return Keeping(trained="fp32", frozen="fp32", autocast=False)


def plan(
    recipe: Recipe, topology: Topology, data: PreparedData, paths: Paths, *, attempt: int = 1,
    resume: Checkpoint | None = None, stop: int | None = None,
) -> Plan:  # fmt: skip
    metrics, total = f"backend/metrics-{attempt}.jsonl", recipe.training.max_steps or 4
    steps = (str(resume.step if resume else 0), str(stop or total), str(total))
    apart = (str(paths.tokenizer),) if recipe.model.tokenizer else ()
    return Plan(
        backend=NAME,
        argv=(
            str(paths.python),
            "-m",
            "adapters.toy.train",
            paths.model,
            str(paths.checkpoints),
            metrics,
            *steps,
            *apart,
        ),
        metrics=metrics,
        export=export_command(recipe, topology, paths, paths.result, total),
        ledger=tuple(ledger(recipe, topology)),
    )


def export_command(recipe: Recipe, topology: Topology, paths: Paths, target: Path, step: int | None) -> tuple[str, ...]:
    copy = "import shutil, sys; shutil.rmtree(sys.argv[2], True); shutil.copytree(*sys.argv[1:])"
    return (str(paths.python), "-c", copy, str(paths.checkpoints / f"step-{step}"), str(target))


def read_metrics(line: Mapping[str, Any]) -> Metrics | None:
    return {"step": line["step"], "loss": line["loss"]} if "loss" in line else None


def checkpoints(directory: Path) -> list[Checkpoint]:
    whole = [path.parent for path in directory.glob("step-*/trained.json") if path.stat().st_size]  # written last
    found = [Checkpoint(step=int(path.name.removeprefix("step-")), path=path) for path in whole]
    return sorted(found, key=lambda checkpoint: -checkpoint.step)


def fixed_world(recipe: Recipe) -> bool:
    return False


def forget_later(directory: Path, step: int) -> None:
    """Nothing to do: no checkpoint knows of another."""
