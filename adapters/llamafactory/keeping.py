"""How LLaMA-Factory 0.9.5 keeps a model while it trains it: for the estimate of memory."""

from __future__ import annotations

from adapters.contract import Keeping, Loss, Topology
from adapters.llamafactory.kernels import takes_liger
from adapters.llamafactory.sharding import strategy
from adapters.native import LIGER, precision
from recipes import Recipe

# DeepSpeed's own defaults, in elements: what ZeRO sums at once (twice, as it overlaps), and what stage 3 keeps whole.
BUCKET, LIVE = 2 * 500_000_000, 1_000_000_000
LOSSES: dict[str, Loss] = {"dpo": "compared", "kto": "compared", "orpo": "pairs", "simpo": "pairs", "reward": "scores"}


def keeping(recipe: Recipe, topology: Topology) -> Keeping | str:
    compute, spread = precision(recipe, topology), recipe.distributed
    name, world, second = strategy(recipe), topology.world_size, recipe.method in ("dpo", "kto")
    if recipe.tuning.type == "freeze":
        return "no estimate for tuning.type: freeze; it needs less than full, and more than lora"
    if second and recipe.model.adapter_path and recipe.tuning.quantization:
        return "no estimate for a second, quantized model as the reference model"
    liger = takes_liger(recipe, topology)
    offload = {"states"} if spread.offload_optimizer else set()
    offload |= {"weights"} if spread.offload_parameters else set()
    deepspeed, fsdp = name.startswith("deepspeed"), name.startswith("fsdp")
    whole = name in ("ddp", "deepspeed-zero2")
    return Keeping(
        # Its adapter.py casts what is trained to fp32; DeepSpeed has all in bf16, and fp32 copies with the states.
        trained=compute if deepspeed else "fp32",
        frozen=compute,
        autocast=name == "ddp",
        master=deepspeed,
        fused=recipe.training.optimizer == "adamw" and bool(topology.gpus),  # adamw_torch_fused
        weights_over=1 if whole else world,
        states_over=1 if name == "ddp" else world,
        sharded=fsdp,
        # DDP sums all gradients in buckets of their own: gradient_as_bucket_view is off in accelerate.
        summed=(None if world > 1 else 0) if name == "ddp" else BUCKET if deepspeed else 0,
        live=LIVE if name == "deepspeed-zero3" else 0,
        offload=frozenset(offload),
        as_stored=not deepspeed,
        reference=compute if second and (recipe.tuning.type == "full" or recipe.model.adapter_path) else None,
        loss=LOSSES.get(recipe.method, "plain"),
        liger=LIGER if liger else (),
        unpadded=recipe.data.packing and recipe.model.attention == "auto",
    )
