"""The bytes that one training step keeps on one GPU, part by part.

What a part is made of follows the autograd graph of transformers' decoders: which tensors an operation keeps for its
backward, and in which dtype autocast has them (docs/memory.md checks the sums with PyTorch's own memory tracker).
Counted is what PyTorch allocates; Memory.reserved adds what its allocator and the CUDA context take besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.fit.step import FP32, Setup

# What a process holds that is no tensor: the CUDA context with its kernels' code, and cuBLAS's workspace.
CONTEXT = 700_000_000
# Free pieces between the tensors, which the caching allocator cannot give to the next: a share of what it holds.
FRAGMENTATION = 0.05
LOG_PROBS = 256  # tokens whose logits are in fp32 at once on verl (adapters/verl/faster.py)

# States of a trainable parameter: how many of its own dtype, and bytes besides. Sources: torch.optim, bitsandbytes
# (8-bit states have a scale for each 256), transformers' Adafactor (a row and a column instead of a matrix).
OPTIMIZERS: Mapping[str, tuple[float, float]] = {
    "adamw": (2, 0),
    "adamw_8bit": (0, 2.03),
    "paged_adamw_8bit": (0, 0),  # its pages move to the host where the GPU is full
    "adafactor": (0, 0.02),
    "lion": (1, 0),
    "muon": (1, 0),  # a momentum of each matrix
}
# 4 bit: NF4 has a scale for each 64 weights, itself in 8 bit with one fp32 for each 256 (double quantization).
# 8 bit: a row has one fp32 scale.
BITS = {4: 0.5 + 1 / 64 + FP32 / (64 * 256), 8: 1.0, 16: 2.0, 32: 4.0}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one GPU.

    parts: what stays through a step, and what its largest moment adds.
    phases: the largest moment of forward, backward and optimizer step.
    """

    parts: Mapping[str, int]
    phases: Mapping[str, int]

    @property
    def peak(self) -> int:
        return max(self.phases.values())

    @property
    def reserved(self) -> int:
        """What the card must have: the peak, and what is no tensor."""
        return reserved(self.peak)


def reserved(peak: int) -> int:
    """Bytes that a card must have for a peak of tensors: pieces that the allocator cannot use, and CUDA's own."""
    return int(peak * (1 + FRAGMENTATION)) + CONTEXT


def trainable(setup: Setup) -> int:
    """Parameters that are trained: of a LoRA adapter, or all."""
    if not setup.lora:
        return setup.shape.parameters
    matrices = sum(
        (setup.lora.rank * (one.inputs + one.outputs) + (one.outputs if setup.lora.dora else 0)) * count
        for name, one, count in setup.shape.linears
        if _adapted(setup, name)
    )
    return matrices + sum(setup.shape.modules(name) or 0 for name in setup.lora.saved)


def _adapted(setup: Setup, name: str) -> bool:
    if not setup.lora or name in setup.lora.saved:
        return False
    return not setup.lora.targets or any(name == one.rpartition(".")[2] for one in setup.lora.targets)


def weights(setup: Setup) -> int:
    """Bytes of all weights, trained and frozen, unsharded."""
    shape = setup.shape
    if not setup.lora:
        return shape.parameters * setup.trained
    scales = sum(one.outputs * count for _, one, count in shape.linears) * FP32 if setup.base == 8 else 0
    whole = {4: setup.compute, 8: setup.compute}.get(setup.base, setup.base // 8)  # what is not quantized
    frozen = int(shape.linear_weights * BITS[setup.base]) + scales + (shape.parameters - shape.linear_weights) * whole
    return frozen + trainable(setup) * setup.trained


def masked_layers(setup: Setup) -> int:
    """Layers whose attention is given a mask: all of a padded batch, else those whose window the rows exceed."""
    if setup.attention != "sdpa":
        return setup.shape.layers if setup.attention == "eager" else 0
    narrow = setup.shape.window is not None and setup.length >= setup.shape.window
    return setup.shape.layers if setup.padded else setup.shape.sliding_layers if narrow else 0


def layer_activations(setup: Setup, masked: bool) -> int:
    """Bytes that the backward of one decoder layer needs of its forward."""
    shape, s, stream = setup.shape, setup.compute, setup.stream
    kept = shape.norms * shape.hidden * _norm(setup, stream)
    if shape.qk_norm:
        kept += (shape.queries + shape.keys) * _norm(setup, s)
    kept += _inputs(setup, shape.attention)
    # Queries, keys, values and the result; where a mask is given, keys and values are repeated for each head.
    kept += s * (shape.queries + 2 * (shape.queries if masked else shape.keys))
    if shape.fused:  # the values are a part of what the fused layer gave, which stays whole
        kept += s * (shape.queries + shape.keys)
    if setup.attention == "eager":
        kept += shape.heads * setup.length * (FP32 + s)  # softmax in fp32, and its copy that meets the values
    else:
        kept += s * shape.queries + FP32 * shape.heads  # and the logarithm of each row's sum
        kept += s * setup.length if masked else 0  # the mask, which each layer turns from booleans into numbers
    kept += _mlp(setup)
    return kept * setup.tokens


def _norm(setup: Setup, came: int) -> int:
    """Bytes that a norm keeps of each number: in fp32, and where its weight is trained, what it is multiplied with.

    Liger's keeps it as it came, and computes the rest again.
    """
    return came if setup.liger else FP32 + (came if setup.lora is None else 0)


def _mlp(setup: Setup) -> int:
    shape, s = setup.shape, setup.compute
    if not shape.experts:
        # Gate, its activation (which Liger's computes again), up.
        return _inputs(setup, shape.mlp) + (2 if setup.liger else 3) * s * shape.intermediate
    wide = 3 * shape.expert_intermediate + (shape.expert_intermediate + shape.hidden if setup.lora is None else 0)
    return shape.active_experts * s * (wide + shape.hidden) + FP32 * shape.experts


def _inputs(setup: Setup, linears: Mapping[str, object]) -> int:
    """Bytes a token that linear layers keep of their inputs; they need them for the gradient of their weights alone."""
    copies: dict[str, int] = {}
    dropout = setup.lora is not None and setup.lora.dropout
    # What the attention keeps is what its last layer needs.
    kept = () if dropout or setup.attention == "eager" or setup.shape.fused else ("o_proj",)
    for name, one in {**setup.shape.attention, **setup.shape.mlp}.items():
        if name not in linears or not (setup.lora is None or _adapted(setup, name)):
            continue
        # Layers with one input share it, unless autocast casts it or dropout changes it for each.
        shared = name in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
        own = dropout or setup.stream != setup.compute or not shared
        copies[name if own else "hidden"] = 0 if name in kept else setup.compute * one.inputs
        if setup.lora:
            copies[f"{name} rank"] = setup.compute * setup.lora.rank
            copies[f"{name} mask"] = one.inputs if setup.lora.dropout else 0
    return sum(copies.values())


def passing(setup: Setup) -> int:
    """Bytes that a layer holds for a moment at its widest: the MLP, or the scores of eager attention."""
    shape, s = setup.shape, setup.compute
    width = shape.active_experts * shape.expert_intermediate if shape.experts else shape.intermediate
    # The gradient of the MLP's inner width, with that of the gate; and that of the stream, in fp32 for a norm.
    mlp = 2 * s * width + FP32 * shape.hidden
    scores = (FP32 + s) * shape.heads * setup.length if setup.attention == "eager" else 0
    return max(mlp, scores) * setup.tokens


def activations(setup: Setup) -> int:
    """Bytes that all layers keep between forward and backward, and the last norm."""
    shape, masked = setup.shape, masked_layers(setup)
    last = shape.hidden * (_norm(setup, setup.stream) + (setup.compute if setup.lora is None else 0)) * setup.tokens
    if setup.checkpointing:
        return shape.layers * shape.hidden * setup.stream * setup.tokens + last
    kept = masked * layer_activations(setup, True) + (shape.layers - masked) * layer_activations(setup, False)
    return kept + last


def logits(setup: Setup) -> tuple[int, int]:
    """Bytes of the logits and what is made of them: at the end of the forward, and at the backward's beginning."""
    whole = setup.shape.vocabulary * setup.tokens
    if setup.loss == "scores":  # a reward model's head has one output; of the logits there is a token a row
        return 0, 0
    if setup.loss == "fused":  # a chunk at a time, whose gradient is computed in the forward
        chunk = int(whole * min(1.0, setup.shape.hidden / setup.shape.vocabulary)) * (setup.compute + FP32)
        return chunk + (0 if setup.lora else setup.shape.vocabulary * setup.shape.hidden * setup.trained), 0
    s = setup.compute
    # As the model gives them, in fp32, and their log-softmax; accelerate then returns the first in fp32. The backward
    # has the log-softmax, its gradient, and that of the logits.
    upcast = FP32 if s != FP32 else 0
    plain = s + upcast + FP32
    pairs = 3 * FP32  # and a copy of the logits, whose last token is left out, for a GPU's log-softmax
    compared = pairs + 2 * FP32  # the policy's logits and log-softmax stay beside the reference model's
    if setup.loss in ("rows", "tokens"):  # some tokens in fp32; of rows what is left without padding, then its gradient
        one, twice = whole * s, whole * s * (2 if setup.loss == "rows" else 1)
        part = min(LOG_PROBS, setup.tokens) * setup.shape.vocabulary
        return twice + part * FP32, max(twice, one + part * (2 * FP32 + upcast))
    # verl's GRPO: the softmax in fp32, and its product with the logits; then those without padding
    entropy, again = s + 2 * FP32, 2 * s
    whole_forward = {"plain": plain, "pairs": pairs, "compared": compared, "entropy": entropy}
    return whole * whole_forward[setup.loss], whole * (again if setup.loss == "entropy" else 3 * FP32)


def memory(setup: Setup) -> Memory:
    """Parts and peak of one step."""
    shape, number = setup.shape, trainable(setup) // setup.states_over
    saved = setup.lora.saved if setup.lora else frozenset()
    own_head = "lm_head" in saved
    table, head = shape.vocabulary * shape.hidden, shape.vocabulary * shape.hidden * setup.compute
    states, step = _optimizer(setup, number)
    gradients = number * setup.trained
    held = weights(setup) // setup.weights_over
    if "weights" in setup.offload:
        held = states = gradients = step = 0
    if "states" in setup.offload:
        states = gradients = step = 0
    reference = shape.parameters * setup.reference // setup.weights_over
    resident = held + reference + setup.buffers + (0 if "between" in setup.offload else states)

    # Autocast keeps the copies that it makes of trained fp32 weights until the forward ends, and those that the
    # backward needs until then; a checkpointed layer makes its own again.
    copies = kept_copies = 0
    if setup.cast and setup.trained != setup.compute:
        looked_up = table if "embed_tokens" in saved else 0  # never multiplied with
        copies = shape.linear_weights * setup.compute + head
        if setup.lora:
            copies = (trainable(setup) - looked_up) * setup.compute
        kept_copies = copies if not setup.checkpointing else 0 if setup.lora and not own_head else head
    dequantized = max(one.weights for _, one, _ in shape.linears) * setup.compute if setup.base < 16 else 0
    between, moving = activations(setup), passing(setup) + dequantized
    one = layer_activations(setup, masked_layers(setup) > 0)
    ahead, backward = logits(setup)
    # FSDP has embeddings and head whole through a pass (twice while they come), and layers while they are computed and
    # the next one comes; in full training with the gradients of the head and of a layer, which are summed in fp32.
    root = shape.embeddings * setup.compute if setup.sharded else 0
    layer = int(shape.layer_weights * (BITS[setup.base] if setup.lora else setup.compute)) if setup.sharded else 0
    whole = root + (2 * layer if setup.lora else 3 * layer + head * setup.sharded)
    summed = whole if setup.lora else whole + 2 * layer
    # The gradient of the embeddings comes last, dense: added to an earlier one, or to the head's where they are tied.
    dense = 0 if (setup.lora and "embed_tokens" not in saved) or setup.sharded else table * setup.trained
    tied = dense * shape.tied * (setup.lora is None)
    started = resident + (gradients if setup.accumulates else 0) + between
    last = max(dense * setup.accumulates + 2 * tied, one + moving + tied)
    phases = {
        "forward": started + copies + root + max(ahead, 2 * layer + moving),
        "loss": started + kept_copies + root + layer + backward,
        "backward": started + kept_copies + whole + moving + tied + one * setup.checkpointing,
        "first layer's backward": resident + gradients + max(summed, whole + last),
        "optimizer step": held + reference + setup.buffers + states + gradients + step,
    }
    if own_head:  # whose gradient comes beside that of the logits
        added = table * setup.trained + setup.tokens * shape.vocabulary * setup.compute
        phases["head's backward"] = started + kept_copies + root + layer + added
        phases["backward"] += 0 if setup.accumulates else table * setup.trained
    if setup.sharded:
        phases["gathering the embeddings"] = started - between + 2 * root + 2 * layer
    moment = max(phases, key=phases.__getitem__)
    found = {
        "weights": held,
        "reference model": reference,
        "gradients": gradients if moment in list(phases)[3:5] or setup.accumulates else 0,
        "optimizer states": states if moment == "optimizer step" or "between" not in setup.offload else 0,
        "buffers": setup.buffers,
        "gathered weights": 0 if moment == "optimizer step" else root + layer,
        "activations": between if moment in list(phases)[:3] else 0,
        "logits": {"forward": ahead if ahead > moving else 0, "loss": backward}.get(moment, 0),
    }
    found["others of the moment"] = phases[moment] - sum(found.values())
    return Memory(parts={name: size for name, size in found.items() if size}, phases=phases)


def _optimizer(setup: Setup, number: int) -> tuple[int, int]:
    """Bytes of the states of a number of parameters, and what a step needs besides."""
    own, besides = OPTIMIZERS[setup.optimizer]
    size = FP32 if setup.master else setup.trained
    master = number * FP32 if setup.master else 0
    # torch's AdamW has the square roots of all second moments at once, if its kernels are not fused; a master copy
    # takes its gradients in fp32.
    return int(number * (own * size + besides)) + master, (number * size if own > 1 and not setup.fused else 0) + master
