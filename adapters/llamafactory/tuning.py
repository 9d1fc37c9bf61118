"""Which weights LLaMA-Factory trains: the ledger of the recipe's section `tuning`."""

from __future__ import annotations

from adapters.ledger import Entry, mapped, refused, runner
from adapters.lora import ADAPTER, RESIDUAL, on_residual
from recipes import Recipe

NOT_LORA = "belongs to tuning.type: lora"
_OF_LORA = (
    *("rank", "alpha", "dropout", "target_modules", "rslora", "dora", "lora_plus_ratio", "init", "modules_to_save"),
    "quantization",
)


def entries(recipe: Recipe) -> list[Entry]:
    tuning = recipe.tuning
    kind = mapped("tuning.type", "finetuning_type", tuning.type)
    if tuning.type != "lora":
        return [kind, *_freeze(recipe), *(refused(f"tuning.{name}", NOT_LORA) for name in _OF_LORA)]
    targets = "all" if tuning.target_modules == "all-linear" else ",".join(tuning.target_modules)
    bits = {None: None, "4bit": 4, "8bit": 8}[tuning.quantization]
    return [
        kind,
        *_freeze(recipe),
        mapped("tuning.rank", "lora_rank", tuning.rank),
        mapped("tuning.alpha", "lora_alpha", tuning.alpha),
        mapped("tuning.dropout", "lora_dropout", tuning.dropout),
        mapped("tuning.target_modules", "lora_target", targets),
        mapped("tuning.rslora", "use_rslora", tuning.rslora),
        mapped("tuning.dora", "use_dora", tuning.dora),
        mapped("tuning.lora_plus_ratio", "loraplus_lr_ratio", tuning.lora_plus_ratio),
        _init(recipe),
        mapped("tuning.modules_to_save", "additional_target", ",".join(tuning.modules_to_save) or None),
        mapped("tuning.quantization", "quantization_bit", bits, "NF4, double quantization" if bits == 4 else ""),
    ]


def own_adapter(recipe: Recipe) -> bool:
    """Whether the training starts from an adapter that initial_adapter.py makes."""
    return recipe.tuning.type == "lora" and recipe.tuning.init != "default"


def _init(recipe: Recipe) -> Entry:
    field, key = "tuning.init", "adapter_name_or_path"
    if not own_adapter(recipe):
        return runner(field, "LLaMA-Factory's own: A by Kaiming's rule, B zero")
    note = f"made before the training, and of {RESIDUAL}, which is trained" if on_residual(recipe) else ""
    return mapped(field, key, ADAPTER, note or "made before the training")


def _freeze(recipe: Recipe) -> list[Entry]:
    tuning = recipe.tuning
    if tuning.type != "freeze":
        return [refused(f"tuning.{name}", "belongs to tuning.type: freeze") for name in ("layers", "modules")]
    modules = "all" if tuning.modules == "all" else ",".join(tuning.modules)
    return [
        mapped(
            "tuning.layers", "freeze_trainable_layers", tuning.layers, "the last" if tuning.layers > 0 else "the first"
        ),
        mapped("tuning.modules", "freeze_trainable_modules", modules),
    ]
