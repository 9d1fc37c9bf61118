"""The estimate of a recipe on GPUs: memory, time and disk, and which cards it fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters import backend
from adapters.contract import Keeping, Topology
from recipes import Recipe, UserError
from recipes.methods import METHODS
from recipes.typed import to_json
from runner.fit import models, setups
from runner.fit.gpus import GPUS, UNCERTAINTY, Gpu
from runner.fit.memory import CONTEXT, Memory, memory, trainable
from runner.fit.work import Work, checkpoint_bytes, checkpoints, flops_per_token, hours, work


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a recipe needs; bytes are of one GPU.

    rollouts: share of a GPU that the engine of rollouts takes for itself beside what stays of the training.
    needed: bytes that the card must have, CUDA's own and a margin in it.
    hours: on all GPUs together, where the card and the tokens are known; the truth lies within UNCERTAINTY times.
    """

    model: str
    read: str
    parameters: int
    trained: int
    gpus: int  # or processes, on a CPU
    device: Literal["cuda", "cpu"]
    memory: Memory
    resident: int
    rollouts: float
    work: Work
    flops_per_token: float
    checkpoint: int
    checkpoints: int | None
    gpu: Gpu | None
    hours: float | None
    notes: tuple[str, ...]

    def needed(self, card: Gpu) -> int:
        """Bytes that must be free on a card of this kind."""
        engine = self.resident + int(self.rollouts * card.memory) + CONTEXT if self.rollouts else 0
        return max(self.memory.reserved, engine)

    def on(self, card: Gpu) -> bool:
        """Whether it fits such a card."""
        return self.needed(card) <= card.memory

    @property
    def cards(self) -> list[str]:
        """The cards of the table that it fits."""
        return [name for name, card in GPUS.items() if self.on(card)]


def estimate(recipe: Recipe, topology: Topology, runs_dir: Path, gpu: Gpu | None = None) -> Fit | str:
    """The estimate of a checked recipe, or one line that says why there is none.

    A config.json of another kind is no mistake of the recipe's: what is not known here can train all the same.
    """
    kept = backend(recipe.backend).keeping(recipe, topology)
    if isinstance(kept, str):
        return kept
    try:
        found = models.find(recipe.model.path, recipe.model.revision)
    except UserError as error:
        return f"no estimate: {error}"
    if isinstance(found, str):
        return found
    setup = setups.setup(recipe, topology, found.shape, kept)
    if recipe.tuning.target_modules and not trainable(setup):
        named = ", ".join(recipe.tuning.target_modules)
        return f"no estimate: tuning.target_modules {named}: none of them is a layer that is counted here"
    step, done = memory(setup), work(recipe, runs_dir / recipe.name / "data" / "accounting.json")
    spread = recipe.distributed
    rewards, operations = METHODS[recipe.method].rewards, flops_per_token(recipe, setup)
    timed = gpu is not None and gpu.flops is not None and done.tokens is not None and not rewards
    return Fit(
        model=recipe.model.path,
        read=found.place,
        parameters=found.shape.parameters,
        trained=trainable(setup),
        gpus=topology.world_size,
        device=topology.device,
        memory=step,
        resident=(0 if spread.offload_parameters else step.parts.get("weights", 0))
        + (0 if spread.offload_optimizer else step.parts.get("optimizer states", 0)),
        rollouts=recipe.grpo.rollouts.gpu_memory_utilization if rewards else 0.0,
        work=done,
        flops_per_token=operations,
        checkpoint=checkpoint_bytes(setup),
        checkpoints=checkpoints(recipe, done.steps),
        gpu=gpu,
        hours=hours(operations * done.tokens, topology, gpu.flops, gpu.share) if timed else None,  # type: ignore
        notes=tuple(_notes(recipe, found, kept, topology)),
    )


def _notes(recipe: Recipe, found: models.Found, kept: Keeping, topology: Topology) -> list[str]:
    notes = []
    if not found.shape.known:
        notes.append(f"the layers of {found.shape.family} are counted as a llama's: more uncertain than others")
    if found.shape.experts:
        notes.append("a mixture of experts: its activations depend on the routing, and are counted as evenly spread")
    if keys := setups.uncounted(recipe, kept):
        notes.append(f"not counted: backend_options {', '.join(keys)}")
    if unknown := [name for name in recipe.tuning.modules_to_save if found.shape.modules(name) is None]:
        notes.append(f"not counted: tuning.modules_to_save {', '.join(unknown)}")
    if not topology.gpus:
        notes.append("this is of a GPU's process: on a CPU the allocator and the kernels are others")
    if METHODS[recipe.method].rewards:
        notes.append("the time of rollouts depends on the lengths of the replies, and is not estimated")
    return notes


def as_json(fit: Fit | str) -> Mapping[str, object]:
    """The estimate for programs, in bytes and hours, with None for what is not known; or why there is none."""
    if isinstance(fit, str):
        return {"reason": fit}
    card = fit.gpu
    return {
        "model": fit.model,
        "read": fit.read,
        "parameters": fit.parameters,
        "trained": fit.trained,
        "gpus": fit.gpus,
        "peak": fit.memory.peak,
        "needed": fit.memory.reserved if card is None else fit.needed(card),
        "parts": dict(fit.memory.parts),
        "phases": dict(fit.memory.phases),
        "rollouts": fit.rollouts,
        "gpu": None if card is None else {"name": card.name, "memory": card.memory, "fits": fit.on(card)},
        "cards": fit.cards,
        "work": to_json(fit.work),
        "flops_per_token": fit.flops_per_token,
        "hours": fit.hours,
        "gpu_hours": None if fit.hours is None else fit.hours * fit.gpus,
        "uncertainty": UNCERTAINTY,
        "checkpoint": fit.checkpoint,
        "checkpoints": fit.checkpoints,
        "notes": list(fit.notes),
    }


def gigabytes(size: float) -> str:
    """`12.3 GB`, of 10^9 bytes, as metrics.jsonl has them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def text(fit: Fit) -> list[str]:
    """The estimate for a person, as lines."""
    parts = sorted(fit.memory.parts.items(), key=lambda part: -part[1])
    lines = [
        f"model:     {fit.parameters:,} parameters, {fit.trained:,} of them trained ({fit.read})",
        _memory(fit),
        *(f"           {gigabytes(size):>9}  {name}" for name, size in parts),
    ]
    if fit.rollouts:
        lines.append(f"rollouts:  the engine takes {fit.rollouts:.0%} of the GPU beside {gigabytes(fit.resident)}")
    lines.append(f"fits:      {_fits(fit)}")
    lines.append(f"work:      {_work(fit)}")
    lines.append(f"time:      {_time(fit)}")
    number = fit.checkpoints
    many = f"{number} x {gigabytes(fit.checkpoint)} = {gigabytes(number * fit.checkpoint)}" if number else ""
    lines.append(f"disk:      {many or gigabytes(fit.checkpoint) + ' each'} of checkpoints")
    return [*lines, *(f"note:      {note}" for note in fit.notes)]


def short(fit: Fit) -> list[str]:
    """The estimate in two or three lines, for a plan."""
    return [_memory(fit), *([f"fits:      {_fits(fit)}"] if fit.device == "cuda" else []), f"work:      {_work(fit)}"]


def _memory(fit: Fit) -> str:
    step = fit.memory
    moment = max(step.phases, key=step.phases.__getitem__)
    what = "GPU" if fit.device == "cuda" else "process"
    where = f"on each of {fit.gpus} {what}{'s' if what == 'GPU' else 'es'}" if fit.gpus > 1 else f"on one {what}"
    besides = f"; {gigabytes(step.reserved)} with CUDA's own and a margin" if fit.device == "cuda" else ""
    return f"memory:    {gigabytes(step.peak)} of tensors {where} ({moment}){besides}"


def _fits(fit: Fit) -> str:
    if fit.gpu is None:
        return ", ".join(fit.cards) or f"none of {', '.join(GPUS)}"
    share = fit.needed(fit.gpu) / fit.gpu.memory
    verdict = "yes" if fit.on(fit.gpu) else "no"
    return f"{verdict}, {share:.0%} of the {gigabytes(fit.gpu.memory)} of {fit.gpu.name}"


def _work(fit: Fit) -> str:
    done = fit.work
    if done.steps is None:
        return f"at most {done.tokens_per_step:,} tokens a step; how many steps is known once the rows are counted"
    tokens = f", {done.tokens:,} tokens" if done.tokens else ""
    return f"{done.steps:,} steps of {done.tokens_per_step:,} tokens{tokens} ({done.source})"


def _time(fit: Fit) -> str:
    each, card = f"{fit.flops_per_token / 1e9:.3g} GFLOP a token", fit.gpu
    if card is None or card.flops is None:
        return f"{each}; name a card (--gpu h100) for an estimate of the time"
    step = fit.flops_per_token * fit.work.tokens_per_step / (card.flops * card.share * fit.gpus) / 3600
    whole = "" if fit.hours is None else f"about {duration(fit.hours)}, {fit.hours * fit.gpus:.2g} GPU-hours; "
    bound = "" if fit.work.exact else "at most "
    return (
        f"{whole}{bound}{duration(step)} a step: {each} at {card.share:.0%} of the peak of {card.name}, "
        f"an assumption; it may be {1 / UNCERTAINTY:g} to {UNCERTAINTY:g} times that"
    )


def duration(hours: float) -> str:
    """Hours in the unit that suits them."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.2g} s"
