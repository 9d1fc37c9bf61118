"""What `recipe list` prints: the catalogue, or those of it that fit a GPU, with what they need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import recipes
from adapters.contract import Topology
from recipes import UserError, made
from recipes.tables import MODELS
from runner.runs.show import table

HEADER = ("name", "backend", "method", "tuning", "model", "description", "file")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A recipe of the catalogue; `file`: None of one that is made."""

    name: str
    backend: str
    method: str
    tuning: str
    model: str
    description: str
    file: str | None


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a recipe needs of each GPU, in bytes, and for how many hours; as `recipe fit` says it.

    peak: of tensors; needed: with CUDA's own and a margin.
    """

    peak: int
    needed: int
    hours: float | None


def rows() -> Iterator[Row]:
    """The recipes that come with the package, those that are written first."""
    for name, file in recipes.catalogue().items():
        each = [recipes.load(stage).recipe for stage in recipes.stages_of(file)]
        tunings = (" ".join(filter(None, (one.tuning.type, one.tuning.quantization))) for one in each)
        yield Row(
            name=name,
            backend=_of_all(one.backend for one in each),
            method=_of_all(one.method for one in each),
            tuning=_of_all(tunings),
            model=each[0].model.path,
            description=each[0].description,
            file=str(file),
        )
    for name in made.made():
        model, kind, _ = made.parts(name)
        yield Row(
            name=name,
            backend=kind.backend,
            method=kind.method,
            tuning={"qlora": "lora 4bit"}.get(kind.tuning, kind.tuning),
            model=MODELS[model],
            description=made.description(name),
            file=None,
        )


def _of_all(values: Iterable[str]) -> str:
    """What the stages of a recipe say, each once; of one without stages, what it says."""
    return ", ".join(dict.fromkeys(values))


def list_recipes(card: str | None, gpus: int | None, method: str | None, model: str | None, *, as_json: bool) -> str:
    """Print the recipes that are asked for, and return in words how many were left out and why.

    Args:
        card: a card or its memory; only recipes that fit `gpus` of them by the estimate, as written, are listed.
        model: text that a recipe's name or model has in it.

    Raises:
        UserError: a card that is not known, or `gpus` without one.
    """
    if gpus and not card:
        raise UserError(f"--gpus {gpus} goes with --gpu: say which, such as --gpu 24GB --gpus {gpus}")
    asked = [row for row in rows() if method in (None, *row.method.split(", ")) and _named(row, model)]
    said, needs = "", dict[str, Need]()
    if card:
        needs, said = _fitting(asked, card, gpus or 1)
        asked = [row for row in asked if row.name in needs]
    if as_json:
        print(json.dumps([_values(row, needs.get(row.name)) for row in asked], ensure_ascii=False, indent=1))
    elif asked:
        print(table(_cells(asked, needs)))
    return said or ("" if asked else "no recipe of the catalogue is like that; `recipe list` shows all")


def _named(row: Row, model: str | None) -> bool:
    return model is None or model.lower() in row.model.lower() or model.lower() in row.name.lower()


def _fitting(asked: list[Row], card: str, gpus: int) -> tuple[dict[str, Need], str]:
    """What those need that fit, by name, and the others counted."""
    from runner.fit.estimate import estimate
    from runner.fit.gpus import gpu
    from runner.training.micro_batch import settled
    from runner.training.planning import check

    wanted, machines = gpu(card), Topology(gpus=gpus, processes=gpus)
    needs: dict[str, Need] = {}
    large = refused = unknown = 0
    for row in asked:
        try:
            each = [settled(recipes.load(name), machines, wanted) for name in recipes.stages_of(row.name)]
            for loaded in each:
                check(loaded, machines)
        except UserError:  # a batch that does not divide, rollouts on more GPUs than there are: `recipe fit` says
            refused += 1
            continue
        fits = [estimate(loaded.recipe, machines, Path("runs"), wanted) for loaded in each]
        known = [fit for fit in fits if not isinstance(fit, str)]
        if len(known) < len(fits):
            unknown += 1
        elif all(fit.on(wanted) for fit in known):
            hours = [fit.hours for fit in known if fit.hours is not None]
            needs[row.name] = Need(
                peak=max(fit.memory.peak for fit in known),
                needed=max(fit.needed(wanted) for fit in known),
                hours=sum(hours) if len(hours) == len(known) else None,
            )
        else:
            large += 1
    others = ((large, "need more memory"), (refused, "are refused there"), (unknown, "have no estimate"))
    left = "".join(f"; {count} {why}" for count, why in others if count)
    many = f"{gpus} x {card}" if gpus > 1 else card
    return needs, f"{len(needs)} of {len(asked)} recipes fit {many}{left}"


def _cells(asked: list[Row], needs: dict[str, Need]) -> list[tuple[str, ...]]:
    from runner.fit.estimate import duration, gigabytes

    if not needs:
        own = [(r.name, r.backend, r.method, r.tuning, r.model, r.description, r.file or "(made)") for r in asked]
        return [HEADER, *own]
    lines: list[tuple[str, ...]] = [(*HEADER[:5], "peak", "needed", "hours", "description")]
    for r in asked:
        need = needs[r.name]
        hours = "-" if need.hours is None else duration(need.hours)
        figures = (gigabytes(need.peak), gigabytes(need.needed), hours)
        lines.append((r.name, r.backend, r.method, r.tuning, r.model, *figures, r.description))
    return lines


def _values(row: Row, need: Need | None) -> dict[str, str | float | None]:
    return {**row.__dict__, **(need.__dict__ if need else {})}
