"""DeepSpeed and FSDP of LLaMA-Factory's and Axolotl's configurations as a recipe's `distributed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.imports.llamafactory_data import found, json_of
from runner.imports.taken import Taken, names_of


def sharding(taken: Taken, directory: Path) -> None:
    """Take DeepSpeed's stage, and what it offloads, of its configuration or the name that it has among the examples."""
    deepspeed = taken.left.get("deepspeed")
    if deepspeed:
        config = _deepspeed(deepspeed, directory)
        if config is None:
            taken.drop("deepspeed", f"{deepspeed} is not there to be read; use the recipe's distributed.strategy")
            return
        zero = config.get("zero_optimization")
        if not isinstance(zero, dict) or zero.get("stage") not in (2, 3):
            taken.drop("deepspeed", "recipes have ZeRO 2 and 3; use the recipe's distributed.strategy")
            return
        taken.put("deepspeed", "distributed.strategy", f"deepspeed-zero{zero['stage']}")
        for key, field in (("offload_param", "offload_parameters"), ("offload_optimizer", "offload_optimizer")):
            if (zero.get(key) or {}).get("device", "none") != "none":
                taken.also("deepspeed", f"distributed.{field}", True, key)
    _fsdp(taken)


def _fsdp(taken: Taken) -> None:
    """Take FSDP where it shards all, as a recipe's does; how it wraps and gathers is the adapter's to say."""
    given = taken.left.get("fsdp_config")
    config = given if isinstance(given, dict) else {}  # else the path of a file
    kinds = names_of(" ".join(names_of(taken.left.get("fsdp") or "")).replace(" ", ","))
    version = taken.left.get("fsdp_version", config.get("fsdp_version", config.get("version", 1)))
    whole = "full_shard" in kinds or ("fsdp" not in taken.left and config)
    if whole and not {"hybrid_shard", "hybrid_shard_zero2", "shard_grad_op", "offload"} & set(kinds):
        key = "fsdp" if "fsdp" in taken.left else "fsdp_config"
        value = taken.left[key]
        taken.put(key, "distributed.strategy", "fsdp2" if version == 2 else "fsdp")
        if key == "fsdp_config":
            taken.left[key] = value
        if "fsdp_version" in taken.left:
            taken.note("fsdp_version", f"distributed.strategy: {taken.recipe['distributed']['strategy']}")
        taken.drop("fsdp_config", "the adapter says how layers are wrapped; see distributed for what is offloaded")
    for key in ("fsdp", "fsdp_config"):
        taken.drop(key, "use the recipe's distributed.strategy: fsdp or fsdp2, which shard all")


def _deepspeed(value: Any, directory: Path) -> dict[str, Any] | None:
    """Its configuration; of the tools' own examples, by their names, what matters here."""
    if isinstance(value, dict):
        return value
    file = found(directory, str(value))
    if file:
        return json_of(file)
    stage = next((n for n in (2, 3) if f"z{n}" in Path(str(value)).name or f"zero{n}" in Path(str(value)).name), None)
    if stage is None:
        return None
    offload = {"device": "cpu" if "offload" in Path(str(value)).name else "none"}
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["offload_param"] = offload
    if not Path(str(value)).stem.endswith("_params"):  # Axolotl's zero3_bf16_cpuoffload_params
        zero["offload_optimizer"] = offload
    return {"zero_optimization": zero}
