"""`training.micro_batch_size: auto` as a number: the largest power of two that the estimate says fits the GPUs.

It is what `plan` shows; once its rows are prepared, a run tries it on them (runner/training/trial.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapters import backend
from adapters.contract import Topology
from adapters.refusals import unsupported
from recipes import LoadedRecipe, UserError
from recipes.load import load_text
from runner.fit.gpus import Gpu
from runner.machine.cards import cards

if TYPE_CHECKING:
    from runner.fit.estimate import Fit

FIELD = "training.micro_batch_size"
MARGIN = 1.1  # docs/memory.md: the estimate is within 10 % of what PyTorch tracks


def settled(loaded: LoadedRecipe, machines: Topology, card: Gpu | None = None) -> LoadedRecipe:
    """The recipe with a number where it says auto, and in `chosen` what it was chosen from; another recipe as it is.

    `card`: the GPU that it is for; None: the smallest of this machine's that it trains on.

    Raises:
        UserError: auto, on several nodes.
    """
    if loaded.recipe.training.micro_batch_size:
        return loaded
    if machines.nodes > 1:
        text = "auto is for one node: each would choose by its own GPUs; give a number (`recipe fit` says what fits)"
        raise UserError(loaded.document.problem(tuple(FIELD.split(".")), text))
    size, why = _size(loaded, machines, card or smallest(machines))
    return replace(with_size(loaded, size), chosen=(*loaded.chosen, f"{FIELD}: auto is {size}: {why}"))


def was_auto(chosen: Iterable[str], size: int | None = None) -> bool:
    """Whether auto became a number; `size`: this one."""
    return any(text.startswith(f"{FIELD}: auto is {'' if size is None else f'{size}:'}") for text in chosen)


def _size(loaded: LoadedRecipe, machines: Topology, card: Gpu | None) -> tuple[int, str]:
    from runner.fit.estimate import gigabytes  # a sixth of the time of `recipe validate`, which seldom needs it

    if not machines.gpus:
        return 1, "on a CPU more rows at once gain little"
    if loaded.recipe.distributed.max_tokens_per_device:
        return 1, "distributed.max_tokens_per_device takes its place"
    if card is None:
        return 1, "the memory of these GPUs is not known here (nvidia-smi tells it); give a number"
    larger = ""
    for size, fit in allowed(loaded, machines):
        if isinstance(fit, str):
            return 1, f"{fit}; give a number"
        needed = int(fit.needed(card) * MARGIN)
        if needed <= card.memory:
            said = (
                f"{gigabytes(needed)} of the {gigabytes(card.memory)} of {card.name} by the estimate, 10 % more in it"
            )
            return size, said + larger
        larger = f"; {size} would need {gigabytes(needed)}"
    return 1, f"by the estimate no size fits {card.name}{larger}; `recipe fit` says what would"


def allowed(loaded: LoadedRecipe, machines: Topology, longest: int | None = None) -> Iterator[tuple[int, Fit | str]]:
    """The powers of two of which the backend can make the global batch on these machines, the largest first.

    With the estimate of each, for rows of `longest` tokens; None: of `data.max_length`.
    """
    from runner.fit.estimate import estimate

    batch = loaded.recipe.training.global_batch_size
    for size in (2**n for n in reversed(range(batch.bit_length()))):
        one = with_size(loaded, size)
        if not (unsupported(one) or backend(one.recipe.backend).problems(one, machines)):
            data = replace(one.recipe.data, max_length=longest or one.recipe.data.max_length)
            yield size, estimate(replace(one.recipe, data=data), machines, Path())


def with_size(loaded: LoadedRecipe, size: int) -> LoadedRecipe:
    """The recipe with this number."""
    overrides = (*loaded.overrides, f"{FIELD}={size}")
    return load_text(loaded.source, loaded.path, overrides, sources_needed=False)


def smallest(machines: Topology) -> Gpu | None:
    """The GPU with the least memory of those that are trained on; None where the driver tells nothing."""
    found = min(cards(machines.devices), key=lambda card: card.memory, default=None)
    return Gpu(name=found.name, memory=found.memory) if found else None
