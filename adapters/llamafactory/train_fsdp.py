"""What FSDP2 of accelerate 1.11 and transformers 5.6 gets wrong, inside the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any


def install() -> None:
    """Before the trainer is made."""
    _keep_digits()
    _load_adapters()
    _leave_copies_apart()
    _make_no_empty_groups()


def _keep_digits() -> None:
    """Leave a model's output as it is: cast to bf16, of a loss of 12.2132 there is 12.25 left."""
    from accelerate.utils import FullyShardedDataParallelPlugin as Plugin

    decide = Plugin.set_mixed_precision

    def set_mixed_precision(plugin: Any, *args: Any, **given: Any) -> None:
        decide(plugin, *args, **given)
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)

    Plugin.set_mixed_precision = set_mixed_precision


def _load_adapters() -> None:
    """Have a resumed run begin with its checkpoint's adapter: what accelerate keeps of one is one process's share."""
    from transformers import trainer

    load = trainer.load_fsdp_model

    def load_fsdp_model(plugin: Any, accelerator: Any, model: Any, directory: str, **given: Any) -> Any:
        file = Path(directory) / "adapter_model.safetensors"
        return _load_adapter(model, file) if file.is_file() else load(plugin, accelerator, model, directory, **given)

    trainer.load_fsdp_model = load_fsdp_model


def _leave_copies_apart() -> None:
    """Tie no weights of which PEFT trains copies: accelerate ties what it has sharded again, and ended there."""
    from peft.utils import ModulesToSaveWrapper
    from transformers import PreTrainedModel

    tie = PreTrainedModel.tie_weights

    def tie_weights(model: Any, *args: Any, **given: Any) -> None:
        if not any(isinstance(module, ModulesToSaveWrapper) for module in model.modules()):
            tie(model, *args, **given)

    PreTrainedModel.tie_weights = tie_weights


def _make_no_empty_groups() -> None:
    """Have LoRA+ make groups of parameters for what there is: torch resumes no optimizer with several empty ones."""
    from llamafactory.train import trainer_utils

    create = trainer_utils._create_loraplus_optimizer

    def create_loraplus(*args: Any) -> Any:
        optimizer = create(*args)
        optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    trainer_utils._create_loraplus_optimizer = create_loraplus


def _load_adapter(model: Any, file: Path) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file
    from torch.distributed.tensor import DTensor, distribute_tensor

    whole = load_file(file)
    for name, part in get_peft_model_state_dict(model, adapter_name=model.active_adapter).items():
        value = whole.pop(name).to(part.device, part.dtype)
        part.copy_(distribute_tensor(value, part.device_mesh, part.placements) if isinstance(part, DTensor) else value)
    if whole:
        raise ValueError(f"{file}: the model has no {', '.join(whole)}")
