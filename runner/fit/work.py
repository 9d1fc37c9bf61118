"""How much a recipe computes and writes: tokens, steps, floating-point operations, bytes of checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import Topology
from recipes import Recipe
from recipes.methods import METHODS
from recipes.typed import read_typed
from runner.data.spec import Accounting
from runner.fit.memory import OPTIMIZERS, trainable
from runner.fit.setups import length
from runner.fit.step import FP32, Setup

COUNTABLE = 200_000_000  # bytes of a jsonl file whose lines are counted: a fraction of a second


@dataclass(frozen=True, kw_only=True)
class Work:
    """`tokens` of all epochs and `tokens_per_step` are a bound where `exact` is not set; None: the rows are unknown."""

    rows: int | None
    steps: int | None
    tokens: int | None
    tokens_per_step: int
    exact: bool
    source: str


def work(recipe: Recipe, accounting: Path) -> Work:
    """What a recipe trains on: of the accounting of its prepared rows where that is there, else a bound.

    A row has at most data.max_length tokens; of a pair, each of both.
    """
    training, rows = recipe.training, METHODS[recipe.method].rows
    each = length(recipe) * recipe.distributed.sequence_parallel * (2 if rows.pair else 1)
    if METHODS[recipe.method].rewards:
        each *= recipe.grpo.rollouts.n
    counted = _counted(accounting) if accounting.is_file() else None
    number, mean = counted if isinstance(counted, tuple) else (_rows(recipe), float(each))
    batch = training.global_batch_size
    per_epoch = math.ceil(number / batch) if number else None
    steps = training.max_steps or (math.ceil(training.epochs * per_epoch) if per_epoch else None)
    if training.max_steps:
        trained: float | None = training.max_steps * batch
    else:
        trained = training.epochs * number if number else None
    bound = "training.max_steps" if training.max_steps else "the rows of the files" if number else "rows"
    source = f"at most: {bound}, each as long as may be{f'; {counted}' if counted else ''}"
    return Work(
        rows=number,
        steps=steps,
        tokens=int(mean * trained) if trained else None,
        tokens_per_step=int(mean * batch),
        exact=isinstance(counted, tuple),
        source=str(accounting) if isinstance(counted, tuple) else source,
    )


def _counted(accounting: Path) -> tuple[int, float] | str:
    """Rows (or packs) and mean tokens of one, as the run counted them when it prepared them, or why not."""
    try:
        found = read_typed(Accounting, accounting)
    except (OSError, ValueError) as error:
        return f"{accounting} cannot be read: {error}"
    number = found.sequences or found.trained
    tokens = found.sequences * found.sequence_length or found.tokens
    return (number, tokens / number) if number and tokens else f"{accounting} counts no rows"


def _rows(recipe: Recipe) -> int | None:
    """At most so many rows: what sources are limited to, or the lines of small jsonl files."""
    total, most = 0, recipe.data.max_samples
    for source in recipe.data.train:
        paths = [source.path] if isinstance(source.path, str) else source.path
        lines, asked = [_lines(Path(path)) for path in paths], source.max_samples
        known = None if None in lines else sum(count for count in lines if count is not None)
        if isinstance(asked, float):
            count = None if known is None else math.ceil(asked * known)
        else:
            count = min((one for one in (known, asked) if one is not None), default=None)
        if source.weight is not None or (count is None and most is None):
            return None
        total += most if count is None and most is not None else count or 0
    total = total if most is None else min(total, most)
    return total - int(total * recipe.data.validation.fraction)


def _lines(file: Path) -> int | None:
    if file.suffix != ".jsonl" or not file.is_file() or file.stat().st_size > COUNTABLE:
        return None
    with file.open("rb") as stream:
        return sum(1 for line in stream if line.strip())


def flops_per_token(recipe: Recipe, setup: Setup) -> float:
    """Floating-point operations that training takes for one token of a row.

    A forward takes 2 for each weight that the token meets (Kaplan et al. 2020, arXiv:2001.08361), and in attention
    2 for each element of queries and keys before it; a backward takes as much for the gradients of the activations,
    and again for those of the weights, which LoRA's frozen base has not. Checkpointing computes the forward twice.
    """
    whole = length(recipe) * recipe.distributed.sequence_parallel
    return model_flops_per_token(recipe, setup, whole) + (_forward(setup, whole) if setup.checkpointing else 0)


def model_flops_per_token(recipe: Recipe, setup: Setup, length: float) -> float:
    """The same for rows of a mean length, without what checkpointing computes again."""
    extra = {"dpo": 1, "kto": 3}.get(recipe.method, 0)  # without gradients: the reference, and KTO's mismatched pairs
    return _forward(setup, length) * ((2 if setup.lora else 3) + extra)


def _forward(setup: Setup, length: float) -> float:
    shape = setup.shape
    return 2 * shape.active + 2 * shape.queries * length * shape.layers


def checkpoint_bytes(setup: Setup) -> int:
    """One checkpoint on disk: what is trained, and the optimizer's states of it, of all processes together."""
    own, besides = OPTIMIZERS[setup.optimizer]
    size = FP32 if setup.master else setup.trained
    return int(trainable(setup) * (setup.trained + own * size + besides + (FP32 if setup.master else 0)))


def checkpoints(recipe: Recipe, steps: int | None) -> int | None:
    """How many lie on the disk at once; None where the steps are unknown and all are kept."""
    every, keep = recipe.checkpoint.every, recipe.checkpoint.keep
    if not every:
        return 1
    number = math.ceil(steps / every) if steps else None
    return min(number or keep, keep) if keep else number


def hours(operations: float, gpus: Topology, flops: float, share: float) -> float:
    """Hours on all GPUs together."""
    return operations / (flops * share * gpus.world_size) / 3600
