"""Loads a model, or an adapter on its base, for inference."""

from __future__ import annotations

from typing import Any

from eval.engines.directory import ModelFiles
from eval.spec import Model, Spec
from recipes.errors import UserError


def device_of(wanted: str) -> str:
    import torch

    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_of(wanted: str, device: str, config: Any) -> Any:
    """`auto` is the model's own type on an accelerator, and float32 on a CPU, where half precision is slower."""
    import torch

    if wanted != "auto":
        return getattr(torch, wanted)
    own = getattr(config, "dtype", None)
    return own if device != "cpu" and isinstance(own, torch.dtype) else torch.float32


def load_model(model: Model, files: ModelFiles, spec: Spec) -> Any:
    """The model in evaluation mode on its device.

    Raises:
        UserError: the files cannot be loaded.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM

    source = str(files.base or files.directory)
    device = device_of(spec.device)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=spec.trust_remote_code)
        loaded = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype_of(spec.dtype, device, config),
            trust_remote_code=spec.trust_remote_code,
            device_map=_placement(spec.device, device),
        )
        if files.base:
            loaded = _with_adapter(loaded, files)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UserError(f"model {model.name}: cannot load {files.directory}: {first}") from None
    return loaded.eval()


def _placement(wanted: str, device: str) -> Any:
    """Spread over all accelerators where there are several and none was named."""
    import torch

    return "auto" if wanted == "auto" and torch.cuda.device_count() > 1 else {"": device}


def _with_adapter(loaded: Any, files: ModelFiles) -> Any:
    """The adapter on its base; merged in float32, where that costs no precision and makes it as fast as the base."""
    import torch
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(loaded, str(files.directory))
    return adapted.merge_and_unload() if loaded.dtype == torch.float32 else adapted
