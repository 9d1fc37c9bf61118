"""What is trained of a model, in verl's words: all of it, a new adapter, or one that is there already."""

from __future__ import annotations

from adapters.ledger import Entry, mapped, plain, refused, runner
from adapters.lora import ADAPTER, FILE
from adapters.verl.spread import on_megatron
from recipes import Recipe
from recipes.tuning_checks import MOVED

NOT_LORA = "belongs to tuning.type: lora"


def adapter(recipe: Recipe) -> Entry:
    """An adapter that is trained further takes the place of the one that is made for the start."""
    if not recipe.model.adapter_path:
        return runner("model.adapter_path", "none: the training begins with a new one, or without")
    if on_megatron(recipe):
        return refused(
            "model.adapter_path",
            "Megatron-Bridge begins with an adapter of its own; merge it into its base first (--merged)",
        )
    return mapped("model.adapter_path", "model.lora_adapter_path", recipe.model.adapter_path, "trained further")


def tuning(recipe: Recipe) -> list[Entry]:
    tuning = recipe.tuning
    others = [
        refused("tuning.quantization", "verl trains LoRA on an unquantized base"),
        refused("tuning.lora_plus_ratio", "verl has one learning rate for all of an adapter"),
        refused("tuning.modules_to_save", "verl keeps the LoRA matrices alone"),
        *(refused(f"tuning.{name}", "belongs to tuning.type: freeze") for name in ("layers", "modules")),
    ]
    names = ("rank", "alpha", "dropout", "target_modules", "rslora", "dora", "init")
    if tuning.type == "full":
        kind = mapped("tuning.type", "model.lora_rank", 0)
        return [kind, *others, *(refused(f"tuning.{name}", NOT_LORA) for name in names)]
    if on_megatron(recipe):
        return [*_megatron_lora(recipe), *others]
    if recipe.model.adapter_path:
        return [
            runner("tuning.type", "lora: the adapter of model.adapter_path"),
            mapped("tuning.rank", "model.lora_rank", tuning.rank),
            mapped("tuning.alpha", "model.lora_alpha", tuning.alpha),
            *(runner(f"tuning.{name}", "as model.adapter_path has it") for name in names[2:]),
            *others,
        ]
    # Its FSDP engine has no key for most PEFT options: they go in with the adapter that it starts from.
    return [
        mapped("tuning.type", "model.lora_adapter_path", ADAPTER, f"made of {FILE} before the training"),
        mapped("tuning.rank", "model.lora_rank", tuning.rank),
        mapped("tuning.alpha", "model.lora_alpha", tuning.alpha),
        mapped("tuning.dropout", "lora_dropout", tuning.dropout, file=FILE),
        mapped("tuning.target_modules", "target_modules", plain(tuning.target_modules), file=FILE),
        mapped("tuning.rslora", "use_rslora", tuning.rslora, file=FILE),
        mapped("tuning.dora", "use_dora", tuning.dora, file=FILE),
        refused("tuning.init", "verl trains on the recipe's own base, and this init needs another")
        if tuning.init in MOVED
        else mapped("tuning.init", "init", tuning.init, file=FILE),
        *others,
    ]


# The linear layers of Hugging Face models by Megatron-Bridge's names; its canonical LoRA splits what Megatron fuses.
MEGATRON_LAYERS = {
    "q_proj": "linear_q",
    "k_proj": "linear_k",
    "v_proj": "linear_v",
    "o_proj": "linear_proj",
    "gate_proj": "linear_fc1_gate",
    "up_proj": "linear_fc1_up",
    "down_proj": "linear_fc2",
}


def _megatron_lora(recipe: Recipe) -> list[Entry]:
    tuning, no = recipe.tuning, "its LoRA under Megatron has none; use strategy: fsdp2"
    asked = tuning.target_modules
    layers = list(MEGATRON_LAYERS) if isinstance(asked, str) else asked
    return [
        mapped("tuning.type", "model.lora.type", "canonical_lora"),
        mapped("tuning.rank", "model.lora.rank", tuning.rank),
        mapped("tuning.alpha", "model.lora.alpha", tuning.alpha),
        mapped("tuning.dropout", "model.lora.dropout", tuning.dropout),
        mapped(
            "tuning.target_modules", "model.lora.target_modules", [MEGATRON_LAYERS.get(name, name) for name in layers]
        ),
        *(refused(f"tuning.{name}", no) for name in ("rslora", "dora", "init")),
    ]


def initial_adapter(recipe: Recipe) -> bool:
    """Whether a run starts from an adapter that initial_adapter.py makes."""
    return recipe.tuning.type == "lora" and not on_megatron(recipe) and not recipe.model.adapter_path
