"""Loads a model, or an adapter on its base, for inference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.engines.directory import ModelFiles
from eval.spec import Model, Spec
from recipes.errors import UserError
from recipes.model_files import model_class


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
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig

    source = str(files.base or files.directory)
    device = device_of(spec.device)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=spec.trust_remote_code)
        loaded = load_whole(
            source,
            config=config,
            dtype=dtype_of(spec.dtype, device, config),
            trust_remote_code=spec.trust_remote_code,
            device_map=_placement(spec.device, device),
        )
        if files.base:
            loaded = adapted(loaded, files.directory)
            if loaded.dtype == torch.float32:  # costs no precision there, and makes it as fast as the base
                loaded = loaded.merge_and_unload()
    except UserError as error:
        raise UserError(f"model {model.name}: {error}") from None
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model {model.name}: cannot load {files.directory}: {cause(error)}") from None
    return loaded.eval()


def load_whole(source: str, **how: Any) -> Any:
    """A model all of whose weights are in its files: transformers makes up what is missing, at random.

    Raises:
        UserError: some are missing, or of another shape.
    """
    from transformers import AutoConfig

    told = {name: how[name] for name in ("revision", "trust_remote_code") if name in how}
    config = how.get("config") or AutoConfig.from_pretrained(source, **told)
    loaded, found = model_class(config).from_pretrained(source, output_loading_info=True, **how)
    missing = sorted({*found["missing_keys"], *(str(key[0]) for key in found["mismatched_keys"])})
    if missing:
        raise UserError(f"{source}: its files lack {_named(missing)}; without them its answers would be random")
    return loaded


def _named(keys: list[str]) -> str:
    return f"{len(keys)} of the weights, such as {keys[0]}" if len(keys) > 1 else f"the weight {keys[0]}"


def cause(error: BaseException) -> str:
    """What went wrong, in one line: the libraries put the reason behind a heading ('Error(s) in loading …:')."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":") and len(lines) > 1:
        lines[0] = f"{lines[0]} {lines[1]}" + (f" (and {len(lines) - 2} more)" if len(lines) > 2 else "")
    return lines[0][:400]


def _placement(wanted: str, device: str) -> Any:
    """Spread over all accelerators where there are several and none was named."""
    import torch

    return "auto" if wanted == "auto" and torch.cuda.device_count() > 1 else {"": device}


def adapted(base: Any, adapter: Path) -> Any:
    """An adapter on its base, which is given the embedding rows that it was trained with.

    Raises:
        UserError: the adapter is of another base, or its file is not whole.
    """
    from peft import PeftModel

    resize_for(base, adapter)
    try:
        found = PeftModel.from_pretrained(base, str(adapter))
    except KeyError as error:  # so it says that a module of its modules_to_save is not in the file
        raise UserError(f"{adapter}: the adapter lacks {error}, which its configuration names") from None
    _check_fits(found, adapter)
    return found


def _check_fits(found: Any, adapter: Path) -> None:
    """Compare an adapter's file with what PEFT made of it: it passes over what the base lacks, and makes up the rest.

    Raises:
        UserError: the adapter is of another base, or its file is not whole.
    """
    from safetensors import safe_open

    there = set()
    for file in adapter.glob("adapter_model*.safetensors"):
        with safe_open(file, "pt") as tensors:
            there |= {_bare(key) for key in tensors.keys() if "lora_" in key}  # noqa: SIM118 (it is no mapping)
    wanted = {_bare(name) for name, _ in found.named_parameters() if "lora_" in name}
    if not there:
        return  # of another kind, or pickled
    if missing := sorted(wanted - there):
        raise UserError(f"{adapter}: the adapter lacks {_named(missing)}, which its configuration names")
    if unknown := sorted(there - wanted):
        raise UserError(f"{adapter}: the adapter holds {_named(unknown)}, which this base does not have; give its own")


def _bare(name: str) -> str:
    return name.replace(".default", "").removesuffix(".weight")


def resize_for(base: Any, adapter: Path) -> None:
    """Give a base as many embedding rows as its adapter was trained with, where tokens were added for that.

    The adapter holds those rows, and they are written over what is made here; where it holds them of the input alone,
    the output's are the mean of the others, as transformers makes them (near enough to be the same each time).
    """
    from safetensors import safe_open

    embeddings = (base.get_input_embeddings(), base.get_output_embeddings())
    names = {name for name, module in base.named_modules() if any(module is one for one in embeddings)}
    rows = {len(base.get_input_embeddings().weight)}
    for file in adapter.glob("adapter_model*.safetensors"):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (it is no mapping)
                before, _, kind = key.removeprefix("base_model.model.").partition(".lora_embedding_")
                whole = before.removesuffix(".weight").removesuffix(".modules_to_save")
                if whole in names and "lora_" not in before:
                    rows.add(tensors.get_slice(key).get_shape()[1 if kind == "A" else 0])
    if max(rows) > min(rows):
        base.resize_token_embeddings(max(rows))
