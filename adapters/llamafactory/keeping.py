"""How LLaMA-Factory 0.9.5 keeps a model while it trains it: for the estimate of memory."""

from __future__ import annotations

from adapters.contract import Keeping, Loss, Topology
from adapters.llamafactory.settings import strategy
from adapters.native import precision
from recipes import Recipe

COUNTED = ("enable_liger_kernel",)
# DeepSpeed's own defaults, in elements: what ZeRO sums at once (twice, as it overlaps), and what stage 3 keeps whole.
BUCKET, LIVE = 2 * 500_000_000, 1_000_000_000
LOSSES: dict[str, Loss] = {"dpo": "compared", "kto": "compared", "orpo": "pairs"}


def keeping(recipe: Recipe, topology: Topology) -> Keeping | str:
    compute, native, spread = precision(recipe, topology), recipe.backend_options, recipe.distributed
    name, world, second = strategy(recipe), topology.world_size, recipe.method in ("dpo", "kto")
    loss: Loss = LOSSES.get(recipe.method) or ("fused" if native.get("enable_liger_kernel") else "plain")
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
        weights_over=1 if whole else world,
        states_over=1 if name == "ddp" else world,
        sharded=fsdp,
        # DDP sums all gradients in buckets of their own: gradient_as_bucket_view is off in accelerate.
        summed=(None if world > 1 else 0) if name == "ddp" else BUCKET if deepspeed else 0,
        live=LIVE if name == "deepspeed-zero3" else 0,
        offload=frozenset(offload),
        reference=compute if second and recipe.tuning.type == "full" else None,
        loss=loss,
        counted=COUNTED,
    )
