"""Fields of a recipe that do not go together on verl, or not with the machine; verl lets most of them through."""

from __future__ import annotations

from collections.abc import Iterator

from adapters.contract import Topology
from adapters.native import precision
from adapters.verl import grpo
from adapters.verl.settings import by_tokens, padding_free
from adapters.verl.spread import data_parallel, on_megatron, strategy
from adapters.verl.tuning import MEGATRON_LAYERS
from recipes import Recipe, did_you_mean

MAX_RANK = 512  # of LoRA in vLLM


def conflicts(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    """Each field, dotted, with what is wrong."""
    yield from _grpo(recipe, topology) if recipe.method == "grpo" else _batch(recipe, topology)
    yield from _sequence(recipe, topology)
    yield from _machine(recipe, topology)
    training, name = recipe.training, strategy(recipe)
    if recipe.method == "grpo" and recipe.eval.mode == "pause":
        yield "eval.mode", "grpo does not stop at a step yet; allowed: after, concurrent"
    if name == "megatron" and recipe.method == "grpo":
        yield "distributed.strategy", "megatron trains sft only so far; allowed for grpo: fsdp2, fsdp"
    elif name == "megatron":
        yield from _megatron_layers(recipe)
    if name == "megatron" and precision(recipe, topology) == "fp32":
        yield "training.precision", "fp32 does not go with strategy: megatron; allowed: bf16, fp16"
    if name == "fsdp" and recipe.tuning.type == "full" and training.weight_decay:
        text = "under strategy: fsdp verl decays norms and biases too, fsdp2 and llamafactory do not; use fsdp2, or 0"
        yield "training.weight_decay", text


def _megatron_layers(recipe: Recipe) -> Iterator[tuple[str, str]]:
    asked, known = recipe.tuning.target_modules, MEGATRON_LAYERS
    if recipe.tuning.type == "lora" and not isinstance(asked, str):
        for name in asked:
            if name not in known:
                text = f"{name} has no name in Megatron here; allowed: {', '.join(known)}{did_you_mean(name, known)}"
                yield "tuning.target_modules", text


def _batch(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    training, groups = recipe.training, data_parallel(recipe, topology)
    if not groups:
        text = f"{topology.world_size} processes do not divide among these parallel sizes"
        yield "distributed.tensor_parallel" if on_megatron(recipe) else "distributed.sequence_parallel", text
        return
    unit = groups * (1 if by_tokens(recipe) else training.micro_batch_size)
    batch = training.global_batch_size
    if batch % unit:
        near = " or ".join(str(n) for n in (batch // unit * unit, (batch // unit + 1) * unit) if n)
        micro = "" if by_tokens(recipe) else f"micro_batch_size {training.micro_batch_size} x "
        devices = "device" if groups == 1 else "devices"
        yield "training.global_batch_size", f"{batch} does not divide by {micro}{groups} {devices}; nearest: {near}"
    elif training.micro_batch_size * groups > batch and not recipe.distributed.max_tokens_per_device:
        text = f"{training.micro_batch_size} is more than a device has of training.global_batch_size: {batch // groups}"
        yield "training.micro_batch_size", text


def _sequence(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    spread = recipe.distributed
    if spread.sequence_parallel > 1 and not on_megatron(recipe):
        if not padding_free(recipe):
            yield "distributed.sequence_parallel", "needs distributed.remove_padding: true"
        if recipe.model.attention != "flash_attention_2":
            yield "distributed.sequence_parallel", "needs model.attention: flash_attention_2 (and flash-attn installed)"
    rollouts = recipe.grpo.rollouts
    longest, where = recipe.data.max_length, "data.max_length"
    if recipe.method == "grpo":
        longest, where = rollouts.max_prompt_length + rollouts.max_reply_length, "the longest prompt and reply"
    if spread.max_tokens_per_device and spread.max_tokens_per_device * spread.sequence_parallel < longest:
        yield "distributed.max_tokens_per_device", f"below {where} ({longest}): a row would not fit"


def _machine(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    if topology.gpus:
        return
    name, spread = strategy(recipe), recipe.distributed
    if name != "fsdp2":
        yield "distributed.strategy", f"{name} needs GPUs on verl; on a CPU: fsdp2"
    if recipe.training.kernels == "liger":
        yield "training.kernels", "liger needs a GPU; allowed on a CPU: auto, none"
    if recipe.training.precision == "fp16":
        yield "training.precision", "fp16 needs a GPU; allowed on a CPU: auto, fp32, bf16"
    if recipe.model.attention == "flash_attention_2":
        yield "model.attention", "flash_attention_2 needs a GPU; allowed on a CPU: auto, sdpa, eager"
    for leaf in ("offload_parameters", "offload_optimizer"):
        if getattr(spread, leaf):
            yield f"distributed.{leaf}", "there is no GPU to offload from"


def _grpo(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    yield from _prompts(recipe, topology)
    rollouts = recipe.grpo.rollouts
    if topology.processes % rollouts.tensor_parallel:
        text = f"{rollouts.tensor_parallel} does not divide the {topology.processes} devices of a node"
        yield "grpo.rollouts.tensor_parallel", text
    if rollouts.engine == "sglang" and not topology.gpus:
        yield "grpo.rollouts.engine", "sglang needs a GPU; on a CPU: vllm"
    if recipe.data.overlong == "truncate":
        yield "data.overlong", "a prompt is not cut; allowed for grpo: drop, error"
    if recipe.tuning.type == "lora" and recipe.tuning.dora:
        yield "tuning.dora", "vLLM cannot make rollouts with DoRA; use rslora, or leave it out"
    if recipe.tuning.type == "lora" and recipe.tuning.rank > MAX_RANK:
        yield "tuning.rank", f"vLLM takes LoRA up to rank {MAX_RANK}"


def _prompts(recipe: Recipe, topology: Topology) -> Iterator[tuple[str, str]]:
    batch, mini, n = recipe.training.global_batch_size, grpo.mini_batch_size(recipe), recipe.grpo.rollouts.n
    groups = data_parallel(recipe, topology)
    if batch % mini:
        near = min((d for d in range(1, batch + 1) if batch % d == 0), key=lambda d: abs(d - mini))
        yield "grpo.mini_batch_size", f"{mini} does not divide training.global_batch_size {batch}; nearest: {near}"
    if not groups:
        text = f"{topology.world_size} processes do not divide among these parallel sizes"
        yield "distributed.sequence_parallel", text
        return
    micro = 1 if recipe.distributed.max_tokens_per_device else recipe.training.micro_batch_size
    if mini * n % (groups * micro):
        where = "grpo.mini_batch_size" if recipe.grpo.mini_batch_size else "training.global_batch_size"
        text = (
            f"{mini} prompts x {n} replies do not divide by micro_batch_size {micro} x {groups} "
            f"device{'s' if groups > 1 else ''}"
        )
        yield where, text
