"""The smallest changes of a recipe that make it fit a GPU, as `--set` lines, the cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from adapters.contract import Topology
from recipes import LoadedRecipe, Recipe, UserError, load_text
from runner.fit.estimate import Fit
from runner.fit.gpus import Gpu

SHOWN = 5
MOST_PARTS = 256  # that a micro batch is proposed to be divided into


@dataclass(frozen=True, kw_only=True)
class Change:
    """`sets`: the overrides; `gpus`: on how many; `costs`: what they take; `peak`: bytes that the card then needs."""

    sets: tuple[str, ...]
    gpus: int
    costs: str
    peak: int


@dataclass(frozen=True)
class Step:
    """One change: what it costs, its overrides, and the GPUs it is for (None: as they are)."""

    costs: str
    sets: tuple[str, ...] = ()
    gpus: int | None = None


NOTHING = Step("")


def changes(
    loaded: LoadedRecipe,
    topology: Topology,
    card: Gpu,
    judged: Callable[[LoadedRecipe, Topology], Fit | str],
) -> list[Change]:
    """What makes a recipe fit that does not; empty where nothing tried here does.

    Every proposal is loaded and estimated as the user would give it: what the schema or the backend refuses is none.
    `judged` checks and estimates.
    """
    found: list[Change] = []
    taken: list[set[Step]] = []
    for large in _large(loaded.recipe, topology):
        for small in _small(loaded.recipe):
            steps = {step for step in (*small, large) if step is not NOTHING}
            if not steps or any(smaller <= steps for smaller in taken):
                continue
            change = _tried(loaded, topology, card, judged, [step for step in (*small, large) if step is not NOTHING])
            if change:
                found.append(change)
                taken.append(steps)
                break
    return found[:SHOWN]


def _tried(
    loaded: LoadedRecipe,
    topology: Topology,
    card: Gpu,
    judged: Callable[[LoadedRecipe, Topology], Fit | str],
    steps: list[Step],
) -> Change | None:
    sets = tuple(part for step in steps for part in step.sets)
    gpus = next((step.gpus for step in steps if step.gpus), topology.world_size)
    machines = topology if gpus == topology.world_size else Topology(gpus=gpus, processes=gpus)
    try:
        fit = judged(load_text(loaded.source, loaded.path, [*loaded.overrides, *sets]), machines)
    except UserError:  # not with this backend, method or batch: another proposal may do
        return None
    if isinstance(fit, str) or not fit.on(card):
        return None
    return Change(sets=sets, gpus=gpus, costs="; ".join(step.costs for step in steps), peak=fit.needed(card))


def _small(recipe: Recipe) -> Iterator[tuple[Step, ...]]:
    """What costs some time and changes no result: alone, then together."""
    training = recipe.training
    again = Step("a third more computing", ("training.gradient_checkpointing=true",))
    checkpointing = (NOTHING,) if training.gradient_checkpointing else (NOTHING, again)
    parts = (n for n in range(2, MOST_PARTS + 1) if training.micro_batch_size % n == 0)
    sizes = [training.micro_batch_size // n for n in parts]
    each = [Step("more, smaller micro batches", (f"training.micro_batch_size={size}",)) for size in sizes]
    micro = [NOTHING, *each]
    yield from product(checkpointing, micro)


def _large(recipe: Recipe, topology: Topology) -> Iterator[Step]:
    """What costs more, the cheapest first."""
    yield NOTHING
    if recipe.model.attention == "eager":
        yield Step("nothing: the same attention, without its scores in memory", ("model.attention=sdpa",))
    fsdp = "distributed.strategy=fsdp2"
    if recipe.backend == "llamafactory" and topology.world_size > 1:  # it shards under torchrun alone
        if recipe.distributed.strategy in ("auto", "ddp"):
            yield Step("weights go between the GPUs in each step", (fsdp,))
        zero = ("distributed.strategy=deepspeed-zero2", "distributed.offload_optimizer=true")
        yield Step("the optimizer runs on the host", zero)
        yield Step("weights come from the host in each step", (fsdp, "distributed.offload_parameters=true"))
    if recipe.backend == "verl":
        yield Step("weights come from the host in each step", ("distributed.offload_parameters=true",))
    if recipe.tuning.type == "lora" and not recipe.tuning.quantization:
        yield Step("a base in 8 bit: slower, little worse", ("tuning.quantization=8bit",))
        yield Step("a base in 4 bit: slower, somewhat worse", ("tuning.quantization=4bit",))
    if recipe.tuning.type == "full":
        yield Step("an adapter in place of all weights", ("tuning.type=lora",))
        yield Step("an adapter on a base in 4 bit", ("tuning.type=lora", "tuning.quantization=4bit"))
    length = recipe.data.max_length
    while length > 512:
        length = max(512, length // 2)
        yield Step("longer rows are left out or cut", (f"data.max_length={length}",))
    for gpus in (2, 4, 8, 16):
        if gpus > topology.world_size:
            yield Step(f"{gpus} GPUs", (fsdp,), gpus)
