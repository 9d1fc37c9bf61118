"""Makes the LoRA adapter that a training starts from, where the backend has no key for its options.

Usage: python -m adapters.initial_adapter backend/lora.json ADAPTER [--residual DIRECTORY]

The file holds model, revision (of a model on the hub), trust_remote_code, seed, init (the recipe's tuning.init) and
`options`, the arguments of peft.LoraConfig; for a residual its dtype, and whether the model's tokenizer goes with it.
Matrices are drawn as PEFT draws them, but from a generator of their own: the same adapter whatever the machine and the
order of the layers.

pissa and olora move a part of the base into the adapter. What is then trained is the residual: the base without that
part, made from the adapter's files, so that it is the same whenever it is made. `subtracted` turns what was trained
into an adapter of the base itself.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from recipes.model_files import model_class

Weights = dict[str, Any]  # tensors by PEFT's names
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ITERATIONS = 16  # of the randomized SVD: LLaMA-Factory's own number (pissa_iter)


def make(settings: dict[str, Any], target: Path) -> None:
    """Write the adapter to `target`, whole or not at all; one that is there already stays."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    if target.is_dir():
        return
    base = {"base_model_name_or_path": settings["model"], "revision": settings["revision"]}
    config = LoraConfig(task_type="CAUSAL_LM", **base, **settings["options"])
    weights = _weights(settings, config)

    def write(directory: Path) -> None:
        config.save_pretrained(directory)
        save_file(weights, directory / "adapter_model.safetensors")

    _write(target, write)


def make_residual(settings: dict[str, Any], adapter: Path, target: Path) -> None:
    """Write the base without what its adapter adds to it to `target`, whole or not at all; one that is there stays."""
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import AutoTokenizer

    if target.is_dir():
        return
    adapted = PeftModel.from_pretrained(base_model(settings, real=True, dtype=settings["dtype"]), str(adapter))
    with torch.no_grad():
        for layer in adapted.modules():
            if isinstance(layer, LoraLayer):
                weight = layer.get_base_layer().weight
                weight.data = (weight.float() - layer.get_delta_weight("default").float()).to(weight.dtype)
    told = {"revision": settings["revision"], "trust_remote_code": settings["trust_remote_code"]}

    def write(directory: Path) -> None:
        adapted.unload().save_pretrained(directory)
        if settings["tokenizer"]:
            AutoTokenizer.from_pretrained(settings["model"], **told).save_pretrained(directory)

    _write(target, write)


def _write(target: Path, write: Callable[[Path], None]) -> None:
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    temporary.chmod(0o755)
    write(temporary)
    try:
        temporary.rename(target)
    except OSError:  # another node was first, with the same files
        shutil.rmtree(temporary)


def _weights(settings: dict[str, Any], config: Any) -> Weights:
    """The adapter's float32 tensors by PEFT's names."""
    import torch
    from peft import get_peft_model, get_peft_model_state_dict

    init = settings["init"]
    moved = MOVED.get(init)
    real = bool(config.use_dora or config.modules_to_save or moved)
    model = base_model(settings, real, settings["dtype"] if moved else "fp32")
    check_modules(model, settings["options"]["target_modules"], config.modules_to_save or [])
    if names := _of_text(model, config.target_modules):
        config.target_modules = names
    adapted = get_peft_model(model, config)
    made, layers = get_peft_model_state_dict(adapted), dict(adapted.named_modules())
    generator = torch.Generator().manual_seed(settings["seed"])
    weights: Weights = {}
    for name in sorted(made):
        before, _, kind = name.rpartition(".lora_")
        if kind == "A.weight":
            other = f"{before}.lora_B.weight"
            if moved:
                torch.manual_seed(settings["seed"])  # the SVD's own sketch takes no generator
                weights[name], weights[other] = moved(layers[before], config.r)
            else:
                weights[name], weights[other] = DRAWN[init](made[name].shape, made[other].shape, generator)
        elif kind == "embedding_B":
            weights[name] = torch.randn(made[name].shape, generator=generator)
        elif kind == "embedding_A":
            weights[name] = torch.zeros(made[name].shape)
        elif name not in weights:
            weights[name] = made[name].float()  # DoRA's norms of the base weights, and modules that are saved whole
    return {name: value.contiguous() for name, value in weights.items()}


def _of_text(model: Any, targets: Any) -> set[str]:
    """What an adapter is of in a model that reads pictures too: its text's part, as on LLaMA-Factory; else nothing."""
    import torch

    there = dict(model.named_modules())
    linear = {name for name, module in there.items() if isinstance(module, torch.nn.Linear)}
    decoder = next(name for name, module in there.items() if module is model.get_decoder())
    inside = {name for name in there if name.startswith(f"{decoder}.")}
    if all(there[name] is model.get_output_embeddings() for name in linear - inside):
        return set()
    if targets == "all-linear":
        return linear & inside
    return {name for name in inside if any(f".{name}".endswith(f".{target}") for target in targets)}


def check_modules(model: Any, targets: Any, saved: Iterable[str]) -> None:
    """Exit where an adapter would not be of the modules that a recipe names.

    Of several names PEFT passes over those that no module has; and a module that is saved whole, but holds a layer that
    LoRA adapts, stays frozen in it.
    """
    import torch

    there = dict(model.named_modules())

    def named(name: str, dot: str = ".") -> list[str]:
        found = [one for one in there if f".{one}".endswith(dot + name)]
        if not found:
            last = {one.rpartition(".")[2] for one in there}
            known = ", ".join(sorted(one for one in last if one and not one.isdigit()))
            sys.exit(f"tuning: the model has no module {name}; it has {known}")
        return found

    head = model.get_output_embeddings()
    linear = [one for one, module in there.items() if isinstance(module, torch.nn.Linear) and module is not head]
    adapted = linear if isinstance(targets, str) else [one for name in targets for one in named(name)]
    for name in saved:
        for one in named(name, ""):  # PEFT takes norm for input_layernorm too
            if inner := next((layer for layer in adapted if f"{layer}.".startswith(f"{one}.")), None):
                sys.exit(f"tuning.modules_to_save: {name} holds {inner}, which tuning.target_modules adapts")


def _default(a: Any, b: Any, generator: Any) -> tuple[Any, Any]:
    import torch

    drawn = torch.zeros(a)
    torch.nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
    return drawn, torch.zeros(b)


def _gaussian(a: Any, b: Any, generator: Any) -> tuple[Any, Any]:
    import torch

    return torch.randn(a, generator=generator) / a[0], torch.zeros(b)


def _orthogonal(a: Any, b: Any, generator: Any) -> tuple[Any, Any]:
    """A of the odd rows of an orthogonal matrix and B of the even ones: both are there, and their product is zero."""
    import torch

    rank = a[0]
    q = torch.linalg.qr(torch.randn(rank, rank, generator=generator)).Q
    first = torch.randn(a[1], rank // 2, generator=generator) @ q[0::2] / 10
    return first.T, torch.randn(b[0], rank // 2, generator=generator) @ q[1::2] / 10


def _matrix(layer: Any, rank: int) -> Any:
    """The base weight of a linear layer in float32, shape (out, in)."""
    if not hasattr(layer, "fan_in_fan_out"):
        sys.exit(f"tuning.init: pissa and olora are for linear layers, and {type(layer).__name__} is none")
    weight = layer.get_base_layer().weight.detach().float()
    if rank > min(weight.shape):
        sys.exit(
            f"tuning.rank: {rank} is more than a layer of {tuple(weight.shape)} has; tuning.init needs a lower one"
        )
    return weight.T if layer.fan_in_fan_out else weight


def _pissa(layer: Any, rank: int) -> tuple[Any, Any]:
    """The largest singular directions of the weight (arXiv:2404.02948), by a randomized SVD."""
    import torch

    left, sizes, right = torch.svd_lowrank(_matrix(layer, rank), q=rank, niter=ITERATIONS)
    root = (sizes / layer.scaling["default"]).sqrt()
    return root[:, None] * right.T, left * root


def _olora(layer: Any, rank: int) -> tuple[Any, Any]:
    """The first columns of Q and rows of R of the weight (arXiv:2406.01775); the first columns alone have that Q."""
    import torch

    weight = _matrix(layer, rank)
    q = torch.linalg.qr(weight[:, :rank]).Q
    return q.T @ weight, q


# By the recipe's tuning.init: drawn by the shapes of A and B, or taken of a layer's own weight.
DRAWN: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "default": _default,
    "gaussian": _gaussian,
    "orthogonal": _orthogonal,
}
MOVED: dict[str, Callable[[Any, int], tuple[Any, Any]]] = {"pissa": _pissa, "olora": _olora}


def subtracted(trained: Weights, initial: Weights, config: dict[str, Any]) -> tuple[Weights, dict[str, Any]]:
    """What was trained on a residual as an adapter of the base, of twice the rank.

    W - s B0 A0 + s B A = W + s [B, -B0] [A; A0], where s is alpha / rank, or alpha / sqrt(rank) under rsLoRA.
    """
    import torch

    found = dict(trained)
    for name in trained:
        if name.endswith(".lora_A.weight"):
            found[name] = torch.cat([trained[name], initial[name].to(trained[name].dtype)])
        elif name.endswith(".lora_B.weight"):
            both = torch.cat([trained[name], -initial[name].to(trained[name].dtype)], dim=1)
            found[name] = both * math.sqrt(2) if config["use_rslora"] else both
    alpha = config["lora_alpha"] * (1 if config["use_rslora"] else 2)
    return found, {**config, "r": 2 * config["r"], "lora_alpha": alpha}


def base_model(settings: Mapping[str, Any], real: bool, dtype: str = "fp32") -> Any:
    """The model of `model`, `revision` and `trust_remote_code`: without weights, unless they are wanted."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig

    path, trust = settings["model"], settings["trust_remote_code"]
    told = {"revision": settings["revision"], "trust_remote_code": trust}
    config = AutoConfig.from_pretrained(path, **told)
    kind = model_class(config)
    if real:
        return kind.from_pretrained(path, dtype=getattr(torch, DTYPES[dtype]), **told)
    with init_empty_weights():
        return kind.from_config(config, trust_remote_code=trust)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--residual", type=Path)
    given = parser.parse_args()
    told = json.loads(given.settings.read_text(encoding="utf-8"))
    make(told, given.adapter)
    if given.residual:
        make_residual(told, given.adapter, given.residual)
