"""DeepSpeed and FSDP of LLaMA-Factory's and Axolotl's configurations as a recipe's `distributed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.imports.llamafactory_data import found, json_of
from runner.imports.taken import Taken


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
    taken.drop("fsdp", "use the recipe's distributed.strategy: fsdp or fsdp2")
    taken.drop("fsdp_config", "use the recipe's distributed.strategy: fsdp or fsdp2")


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
