"""One training step, as far as its memory depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adapters.contract import Loss
from runner.fit.shapes import Shape

FP32 = 4  # bytes


@dataclass(frozen=True, kw_only=True)
class Lora:
    """`targets`: names of linear layers; empty: all of them. `saved`: names of modules that are trained whole."""

    rank: int
    targets: frozenset[str] = frozenset()
    dropout: bool = False
    dora: bool = False
    saved: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the memory of a step depends on; sizes in bytes, tokens or processes.

    compute: bytes of an element under autocast; base: bits of a frozen weight; trained: bytes of a trainable one.
    rows: conversations that go through the model at once: a micro batch, twice that of pairs.
    padded: whether rows of a batch have different lengths, or are packed, so that attention is given a mask.
    cast: whether autocast makes copies of fp32 weights in `compute`.
    accumulates: whether gradients of earlier micro batches are there while one goes through.
    buffers: bytes in which gradients are summed over processes, and of weights that are whole meanwhile.
    reference: bytes of a weight of the reference model; 0: there is none, or it is the model without its adapter.
    loss, master, fused, weights_over, states_over, sharded, offload: as adapters.contract.Keeping has them.
    """

    shape: Shape
    lora: Lora | None
    rows: int
    length: int
    checkpointing: bool
    attention: Literal["sdpa", "flash", "eager"] = "sdpa"
    padded: bool = False
    compute: int = 2
    base: int = 16
    trained: int = FP32
    cast: bool = True
    loss: Loss = "plain"
    accumulates: bool = True
    liger: bool = False
    optimizer: str = "adamw"
    master: bool = False
    fused: bool = False
    weights_over: int = 1
    states_over: int = 1
    sharded: bool = False
    buffers: int = 0
    offload: frozenset[str] = frozenset()
    reference: int = 0

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def stream(self) -> int:
        """Bytes of an element between the layers: that of the norms' weights, which autocast leaves alone."""
        return self.compute if self.lora or self.trained == self.compute or not self.cast else FP32
