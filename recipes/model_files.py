"""What a model's files say of it, without loading it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.errors import UserError
from recipes.template import BadRow

if TYPE_CHECKING:
    from recipes.types import Tuning

ADAPTER = "adapter_config.json"
HEAD = "value_head.safetensors"  # of a reward model, beside its other weights; so LLaMA-Factory calls it
CARRYING = frozenset(("conv", "linear_attention", "mamba", "recurrent"))  # transformers' names of kinds of layers
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "consolidated*.safetensors")


def adapter_problem(directory: Path) -> str:
    """Why a directory is no model to train, where it is a PEFT adapter; else nothing."""
    config = directory / ADAPTER
    if not config.is_file() or any(found for pattern in WEIGHTS for found in directory.glob(pattern)):
        return ""
    try:
        base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        base = None
    return _adapter_sentence(str(directory), base)


def adapter_base(directory: Path) -> str | None:
    """The model, by path or hub id, that an adapter's directory says it is for.

    Raises:
        UserError: its configuration is damaged.
    """
    config = directory / ADAPTER
    try:
        found = json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except KeyError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{config} is damaged: {error}") from None
    return str(found) if found else None


def adapter_settings(directory: Path) -> dict[str, Any]:
    """What PEFT wrote down of a LoRA adapter, by the recipe's names: fields of `tuning` to their values.

    Raises:
        ValueError: the directory holds no LoRA adapter that can be trained further; says what is wrong.
    """
    config = directory / ADAPTER
    if not config.is_file() or not any(directory.glob("adapter_model.*")):
        raise ValueError(f"{directory} holds no adapter: adapter_config.json and adapter_model.safetensors")
    try:
        value = json.loads(config.read_text(encoding="utf-8"))
        kind, modules = value["peft_type"], value["target_modules"]
        found = {
            "rank": value["r"],
            "alpha": value["lora_alpha"],
            "dropout": value["lora_dropout"],
            "rslora": value.get("use_rslora", False),
            "dora": value.get("use_dora", False),
            "target_modules": "all-linear" if modules == "all-linear" else modules,
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{config} is damaged: {error!r}") from None
    if kind != "LORA" or value.get("modules_to_save"):
        raise ValueError(f"{config}: only a LoRA adapter without modules_to_save can be trained further; merge it")
    return found


def write_settings(directory: Path, tuning: Tuning) -> None:
    """An adapter without weights, for `adapter_settings`: what a training with these fields will leave."""
    config = {
        "peft_type": "LORA",
        "r": tuning.rank,
        "lora_alpha": tuning.alpha,
        "lora_dropout": tuning.dropout,
        "use_rslora": tuning.rslora,
        "use_dora": tuning.dora,
        "target_modules": tuning.target_modules,
    }
    (directory / ADAPTER).write_text(json.dumps(config), encoding="utf-8")
    (directory / "adapter_model.safetensors").touch()


def refuse_adapter(path: str, revision: str | None) -> None:
    """Raise BadRow where a model, of the hub too, is an adapter."""
    config = model_file(path, ADAPTER, revision)
    if config and not model_file(path, "config.json", revision):
        raise BadRow(f"model.path: {_adapter_sentence(path, config.get('base_model_name_or_path'))}")


def refuse_mixing(path: str, revision: str | None, together: str) -> None:
    """Raise BadRow where a model's layers, by its configuration, carry something from row to row of a sequence.

    `together` is the field of the recipe that puts rows into one. Not every configuration says so; before the first
    step a training tries it (adapters/apart.py).
    """
    config = model_file(path, "config.json", revision)
    kinds = config.get("layer_types") or (config.get("text_config") or {}).get("layer_types") or []
    if found := CARRYING.intersection(map(str, kinds)):
        raise BadRow(
            f"{together}: {config.get('model_type')} models do not keep rows in one sequence apart: their layers of "
            f"kind {min(found)} carry something along it; take it out"
        )


def _adapter_sentence(name: str, base: str | None) -> str:
    return (
        f"{name} is a PEFT adapter of {base or 'a base that it does not name'}, not a model; merge it into its base "
        "(`recipe merge RUN` for a run of ours) and train what that leaves, or train the base"
    )


def model_file(path: str, name: str, revision: str | None) -> dict[str, Any]:
    """A JSON file of a model; empty where it has none."""
    from transformers.utils import cached_file

    try:
        found = cached_file(
            path,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    except OSError:  # no such model: the loading of its tokenizer says so, with what to do
        return {}
    if not found:
        return {}
    try:
        value = json.loads(Path(found).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadRow(f"model.path: {name} of {path} is not JSON: {error}") from None
    return value if isinstance(value, dict) else {}


def model_class(config: Any) -> Any:
    """As what the backends load a model of this configuration: whole, where it reads pictures too.

    Its text alone would have other names for its weights, and an adapter of one would not fit the other.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    whole = type(config) in AutoModelForImageTextToText._model_mapping
    return AutoModelForImageTextToText if whole else AutoModelForCausalLM


def end_tokens(*files: Mapping[str, Any]) -> list[int]:
    """`eos_token_id` of the first of some configurations that has one, as a list."""
    for file in files:
        value = file.get("eos_token_id")
        if value is not None:
            return [int(one) for one in (value if isinstance(value, list) else [value])]
    return []
