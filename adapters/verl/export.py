"""Makes the run's `model/` of the newest whole checkpoint: a PEFT adapter, or a Hugging Face model of the dtype asked.

Usage: python -m adapters.verl.export CHECKPOINTS|CHECKPOINT MODEL DTYPE [--adapter INITIAL_ADAPTER]
           [--accounting FILE] [--chat-template FILE] [--trust-remote-code]

Reads the shards itself: verl's own merger writes bfloat16 even from float32 shards, and with LoRA a base model without
the adapter. Runs in one process on the CPU; the shard files are mapped, so memory holds the model about once.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from adapters.stops import write_end_tokens
from adapters.verl.checkpoints import weights, whole_checkpoints, world_size
from recipes.model_files import model_class

Weights = dict[str, Any]  # parameter name to its tensor
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
TOKENIZER = ("vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja")  # and all that have "token" in the name
MEGATRON = Path("model") / "huggingface"  # its checkpoints hold Hugging Face weights already


def export(
    checkpoints: Path,
    model: Path,
    dtype: str,
    *,
    adapter: Path | None,
    template: Path | None,
    trust: bool,
    accounting: Path | None = None,
) -> None:
    """Write `model`, whole or not at all."""
    one = checkpoints.name.startswith("global_step_")
    found = [
        c for c in whole_checkpoints(checkpoints.parent if one else checkpoints) if not one or c.path == checkpoints
    ]
    if not found:
        raise SystemExit(f"no whole checkpoint under {checkpoints}: the trainer did not finish one")
    newest = weights(found[0].path)
    temporary = model.with_name(f".{model.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if (newest / MEGATRON / "adapter").is_dir():
        shutil.copytree(newest / MEGATRON / "adapter", temporary, dirs_exist_ok=True)
        _copy_tokenizer(newest / MEGATRON, temporary)
    elif (newest / MEGATRON).is_dir():
        shutil.copytree(newest / MEGATRON, temporary, dirs_exist_ok=True)
    elif adapter:
        _write_adapter(merged_shards(newest), adapter, temporary)
    else:
        _write_model(merged_shards(newest), newest / "huggingface", temporary, dtype, trust)
    if (newest / "huggingface").is_dir():
        _copy_tokenizer(newest / "huggingface", temporary)
    if template:
        shutil.copyfile(template, temporary / "chat_template.jinja")
    if accounting:
        write_end_tokens(temporary, accounting)
    shutil.rmtree(model, ignore_errors=True)
    temporary.rename(model)


def merged_shards(checkpoint: Path) -> Weights:
    """Parameter name to its whole tensor, in the dtype of the shards."""
    import torch
    import torch.distributed.tensor  # which tells torch's restricted unpickler of DTensors: no shard runs code here

    world = world_size(checkpoint) or 0
    parts: dict[str, list[Any]] = {}
    for rank in range(world):
        file = checkpoint / f"model_world_size_{world}_rank_{rank}.pt"
        for name, value in torch.load(file, map_location="cpu", mmap=True, weights_only=True).items():
            parts.setdefault(name, []).append(value)
    return {name: _whole(values) for name, values in parts.items()}


def _whole(values: list[Any]) -> Any:
    """The tensor whose parts the ranks hold: DTensors sharded over one mesh dimension, or plain replicas."""
    import torch
    from torch.distributed.tensor import DTensor

    if not isinstance(values[0], DTensor):
        return values[0]
    placement = values[0].placements[-1]  # with two mesh dimensions the first one replicates
    shards = values[: values[0].device_mesh.mesh.shape[-1]]
    local = [value.to_local() for value in shards]
    return torch.cat(local, dim=placement.dim).contiguous() if placement.is_shard() else local[0]


def _write_adapter(state: Weights, initial: Path, target: Path) -> None:
    from safetensors.torch import save_file

    trained = {_peft_name(name): value for name, value in state.items() if ".lora_" in name}
    save_file(trained, target / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((initial / "adapter_config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"inference_mode": True}, indent=2, sort_keys=True)
    (target / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def _peft_name(name: str) -> str:
    """A parameter's name without that of the adapter, as PEFT saves it (DoRA's vector loses `.weight` too)."""
    name = name.replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector")
    return name.replace(".default.", ".")


def _write_model(state: Weights, config_directory: Path, target: Path, dtype: str, trust: bool) -> None:
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, GenerationConfig

    kind = getattr(torch, DTYPES[dtype])
    state = {name: value.to(kind) if value.is_floating_point() else value for name, value in state.items()}
    config = AutoConfig.from_pretrained(config_directory, trust_remote_code=trust)
    config.dtype = kind
    with init_empty_weights():
        model = model_class(config).from_config(config, dtype=kind, trust_remote_code=trust)
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    if unexpected or set(missing) - set(model.all_tied_weights_keys):
        raise SystemExit(f"the checkpoint is not of this model: missing {missing[:3]}, unexpected {unexpected[:3]}")
    if (config_directory / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(config_directory)
    model.save_pretrained(target)


def _copy_tokenizer(source: Path, target: Path) -> None:
    for file in source.iterdir():
        if file.is_file() and ("token" in file.name or file.name in TOKENIZER):
            shutil.copyfile(file, target / file.name)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("dtype", choices=DTYPES)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--accounting", type=Path)
    parser.add_argument("--chat-template", type=Path)
    parser.add_argument("--trust-remote-code", action="store_true")
    given = parser.parse_args()
    export(
        given.checkpoints,
        given.model,
        given.dtype,
        adapter=given.adapter,
        template=given.chat_template,
        trust=given.trust_remote_code,
        accounting=given.accounting,
    )


if __name__ == "__main__":
    main()
