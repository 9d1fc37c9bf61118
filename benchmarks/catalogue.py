"""Which recipes are made, and with which batch: recipes/made.json, by the estimate of memory and time.

python -m benchmarks.catalogue

A kind of training of a model is made for the smallest machine that it fits, with the largest micro batch that does,
were the estimate 10 % too low; where that takes long, for the next larger ones too, up to a node. 4-bit QLoRA is made
for its smallest machine, where the weights would take a quarter of it in bf16; with shorter rows where it must.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path

from adapters import BACKENDS
from adapters.contract import Topology
from adapters.refusals import unsupported
from recipes import LoadedRecipe, UserError, load_text
from recipes.files import write_text
from recipes.load import CATALOGUE
from recipes.made import TABLE, Settings, text, thinks
from recipes.tables import KINDS, MACHINES, MODELS, Machine
from runner.fit.estimate import Fit, estimate
from runner.fit.gpus import gpu
from runner.fit.models import families
from runner.fit.shapes import shape
from runner.training.micro_batch import MARGIN
from runner.training.planning import check

LONG = 4.0  # hours of a bound; a larger machine is offered for more
NOWHERE = Path("/none")  # no run whose rows have been counted
SHORT = 1024  # tokens of a row
HEAVY = 0.25  # of a GPU's memory: weights in bf16 that are worth 4 bits
ROLLOUTS = 0.25  # of a GPU's memory: weights of the rollouts' engine, which has half of it; the rest is its cache


def topology(machine: Machine) -> Topology:
    ids = tuple(map(str, range(machine.gpus)))
    return Topology(gpus=machine.gpus, processes=machine.gpus, nodes=machine.nodes, devices=ids)


def estimated(name: str, settings: Settings, backend: str | None = None) -> Fit | None:
    """The estimate of a recipe on its machine, timed by the machine's card; None where it does not fit, or is refused.

    Raises:
        UserError: the recipe itself is wrong, whatever the machine.
    """
    machine = MACHINES[name.rpartition("_")[2]]
    loaded = _loaded(name, settings, backend)
    try:
        if unsupported(loaded):
            return None
        check(loaded, topology(machine))
    except UserError:
        return None
    fit = estimate(loaded.recipe, topology(machine), NOWHERE, gpu(machine.card))
    if isinstance(fit, str):
        raise UserError(f"{name}: {fit}")
    card = gpu(f"{machine.memory}GB")
    return fit if MARGIN * fit.needed(card) <= card.memory else None


def _loaded(name: str, settings: Settings, backend: str | None) -> LoadedRecipe:
    overrides = [f"backend={backend}"] if backend else []
    return load_text(text(name, settings).encode(), CATALOGUE / f"{name}.yaml", overrides)


def candidates(name: str, machine: Machine) -> Iterator[Settings]:
    """Settings for a machine, the fastest first."""
    parallel = _tensor_parallel(name, machine) if "_grpo_" in name else 1
    if parallel > machine.gpus:
        return
    strategies = ("auto",) if machine.gpus == 1 or "_grpo_" in name else ("auto", "fsdp2")
    for length in (None, SHORT) if "_qlora_" in name else (None,):
        for strategy in strategies:
            for micro in (8, 4, 2, 1):
                yield Settings(micro_batch_size=micro, strategy=strategy, tensor_parallel=parallel, max_length=length)


def _tensor_parallel(name: str, machine: Machine) -> int:
    """GPUs among which the engine of the rollouts must divide the weights to have room for its cache."""
    parallel = 1
    while _weights(name.rsplit("_", 3)[0]) / parallel > ROLLOUTS * machine.memory * 1e9:
        parallel *= 2
    return parallel


def _weights(model: str) -> int:
    """Bytes of a model in bf16."""
    return 2 * shape(families()[MODELS[model]]).parameters


@cache
def fitted(name: str) -> Settings | None:
    """The settings of a recipe for its machine, with what it needs; None where it does not fit."""
    machine = MACHINES[name.rpartition("_")[2]]
    for one in candidates(name, machine):
        fit = estimated(name, one)
        if fit:
            card, hours = gpu(f"{machine.memory}GB"), fit.hours
            own = _loaded(name, one, None).recipe.backend
            return replace(
                one,
                swaps=any(estimated(name, one, other) is not None for other in BACKENDS if other != own),
                needed=round(fit.needed(card) / 1e9, 1),
                hours=None if hours is None else float(f"{hours:.2g}"),
            )
    return None


def smallest(model: str, kind: str) -> int:
    """The place of the smallest machine that a kind of training of a model fits; behind all where it fits none."""
    found = (n for n, machine in enumerate(MACHINES) if fitted(f"{model}_{kind}_{machine}"))
    return next(found, len(MACHINES))


def machines(model: str, kind: str) -> Iterator[str]:
    """The machines that a kind of training of a model is made for."""
    first = smallest(model, kind)
    for name, machine in list(MACHINES.items())[first:]:
        found = fitted(f"{model}_{kind}_{name}")
        if found is None:
            return
        if "qlora" in kind and _weights(model) < HEAVY * machine.memory * 1e9:
            return
        yield name
        # With GRPO nobody knows how long; a model that has room on a small card is left at that.
        done = found.hours <= LONG if found.hours is not None else first == 0
        if done or machine.gpus > 1 or "qlora" in kind:
            return


def table(models: Iterable[str] = MODELS) -> str:
    """The text of made.json, or of some models' part of it: a line for each recipe."""
    defaults = {field.name: field.default for field in fields(Settings)}
    lines = []
    for model in models:
        for kind, one in KINDS.items():
            for machine in machines(model, kind) if one.thinking or not thinks(model) else ():
                name = f"{model}_{kind}_{machine}"
                values = asdict(fitted(name) or Settings(micro_batch_size=0))
                row = {key: value for key, value in values.items() if value != defaults[key]}
                lines.append(f' "{name}": {json.dumps(row)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    new = table()
    write_text(TABLE, new)
    print(f"{TABLE}: {new.count(chr(10)) - 2} recipes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
