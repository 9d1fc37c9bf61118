"""Makes the LoRA adapter that verl starts from: its FSDP engine has no key for dropout and most other PEFT options.

Usage: python -m adapters.verl.lora backend/lora.json ADAPTER

The file holds model, revision (of a model on the hub), trust_remote_code, seed and `options`, the arguments of
peft.LoraConfig. B is zero, and A is drawn as PEFT draws it, but from a generator of its own: the same adapter whatever
the machine and the order of the layers.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any


def make(settings: dict[str, Any], target: Path) -> None:
    """Write the adapter to `target`, whole or not at all; one that is there already stays."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    if target.is_dir():
        return
    base = {"base_model_name_or_path": settings["model"], "revision": settings["revision"]}
    config = LoraConfig(task_type="CAUSAL_LM", **base, **settings["options"])
    weights = _weights(settings, config)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    temporary.chmod(0o755)
    config.save_pretrained(temporary)
    save_file(weights, temporary / "adapter_model.safetensors")
    try:
        temporary.rename(target)
    except OSError:  # another node was first, with the same adapter
        shutil.rmtree(temporary)


def _weights(settings: dict[str, Any], config: Any) -> dict[str, Any]:
    """The adapter's float32 tensors by PEFT's names."""
    import torch
    from peft import get_peft_model, get_peft_model_state_dict

    made = get_peft_model_state_dict(get_peft_model(_base(settings, config.use_dora), config))
    generator = torch.Generator().manual_seed(settings["seed"])
    weights = {}
    for name in sorted(made):
        if name.endswith("lora_magnitude_vector"):
            weights[name] = made[name].float()  # DoRA's norms of the base weights
            continue
        weights[name] = torch.zeros(made[name].shape)
        if ".lora_A." in name:
            torch.nn.init.kaiming_uniform_(weights[name], a=math.sqrt(5), generator=generator)
    return weights


def _base(settings: dict[str, Any], real: bool) -> Any:
    """The model to adapt: without weights, unless they are wanted."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    path, trust = settings["model"], settings["trust_remote_code"]
    told = {"revision": settings["revision"], "trust_remote_code": trust}
    if real:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **told)
    with init_empty_weights():
        config = AutoConfig.from_pretrained(path, **told)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust)


if __name__ == "__main__":
    make(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
