"""The file that is laid over verl's configuration tree: the ledger's keys and those that the adapter sets of itself."""

from __future__ import annotations

from typing import Any

from adapters.contract import Checkpoint, Paths, PreparedData, Topology
from adapters.ledger import Entry, plain
from adapters.lora import ADAPTER
from adapters.native import Config, precision
from adapters.verl.settings import by_tokens
from adapters.verl.settings import entries as entries
from adapters.verl.spread import on_megatron, strategy
from recipes import Recipe


def config(recipe: Recipe, topology: Topology, data: PreparedData, paths: Paths, resume: Checkpoint | None) -> Config:
    """What is laid over verl's own tree for SFT (sft_trainer_engine)."""
    engine = "megatron" if on_megatron(recipe) else "fsdp"
    defaults = ["sft_trainer_engine", {"override engine@engine": engine}, {"override optim@optim": engine}]
    return overlay(defaults, entries(recipe, topology, data), own(recipe, topology, data, paths, resume), recipe)


def overlay(defaults: list[Any], told: list[Entry], own: Config, recipe: Recipe) -> Config:
    """A nested dict: Hydra's defaults list, the ledger's keys, the adapter's own, the recipe's native ones."""
    tree: Config = {
        "defaults": [*defaults, "_self_"],
        "hydra": {"searchpath": ["pkg://verl.trainer.config"]},
    }
    values = {key: v for e in told if e.status == "mapped" and not e.file for key, v in e.values.items()}
    for key, value in (values | own).items():
        if value is not None:  # where verl's default is not null, no value of ours is
            _put(tree, key, value)
    for key, value in flat(plain(recipe.backend_options)).items():
        _put(tree, key, value)
    return tree


def own(recipe: Recipe, topology: Topology, data: PreparedData, paths: Paths, resume: Checkpoint | None) -> Config:
    """The keys that no recipe field stands for, and those whose value is a place."""
    validated = bool(recipe.eval.loss_every) and data.validation_rows != 0
    found: Config = {
        "model.path": literal(paths.model),
        "model.tokenizer_path": literal(str(paths.tokenizer)) if recipe.model.tokenizer else None,
        "data.custom_cls.path": "pkg://adapters.verl.rows",
        "data.custom_cls.name": "TokenizedRows",
        "data.train_files": literal(str(paths.tokenized / "train")),
        "data.val_files": literal(str(paths.tokenized / "validation")) if validated else None,
        "data.seed": recipe.training.seed,
        "data.num_workers": 0,  # the rows come tokenized: reading them needs no processes of its own
        "data.use_dynamic_bsz": by_tokens(recipe),
        "trainer.device": topology.device,
        "trainer.nnodes": topology.nodes,
        "trainer.n_gpus_per_node": topology.processes,
        "trainer.project_name": "recipe",
        "trainer.experiment_name": paths.run.name,
        "trainer.default_local_dir": literal(str(paths.checkpoints)),
        "trainer.resume_mode": "resume_path" if resume else "disable",
        "trainer.resume_from_path": literal(str(resume.path)) if resume else None,
    }
    if not validated:
        found["trainer.test_freq"] = -1  # it would iterate over no loader
    return found | (_own_megatron(recipe) if on_megatron(recipe) else own_fsdp(recipe, topology, paths))


def own_fsdp(recipe: Recipe, topology: Topology, paths: Paths) -> Config:
    """Those of a model that trains under FSDP, by any method."""
    lora = recipe.tuning.type == "lora"
    found: Config = {
        "engine.mixed_precision.reduce_dtype": "fp32",
        "engine.mixed_precision.buffer_dtype": "fp32",
        "engine.model_dtype": model_dtype(recipe, topology),
        "checkpoint.save_lora_only": lora,
    }
    if lora:
        found["model.lora_adapter_path"] = literal(recipe.model.adapter_path or str(paths.run / ADAPTER))
        found["model.target_modules"] = None  # the adapter's own config says
        found["model.exclude_modules"] = None
    elif recipe.training.weight_decay:
        found["optim.optimizer_impl"] = "adapters.verl.optimizer"
    return found


def model_dtype(recipe: Recipe, topology: Topology) -> str:
    """The dtype that the weights are kept in: float32 where they are trained (PEFT keeps adapters so by itself)."""
    frozen = recipe.tuning.type == "lora" and strategy(recipe) == "fsdp2"
    return precision(recipe, topology) if frozen else "fp32"


def _own_megatron(recipe: Recipe) -> Config:
    found: Config = {"engine.use_mbridge": True}  # its checkpoints then hold Hugging Face weights
    if recipe.tuning.type == "lora":
        found["model.lora.lora_A_init_method"] = "kaiming"  # as PEFT's
    if recipe.training.gradient_checkpointing:
        where = "engine.override_transformer_config"
        found |= {f"{where}.recompute_method": "uniform", f"{where}.recompute_num_layers": 1}
    return found


def flat(tree: Config, prefix: str = "") -> Config:
    """Nested or dotted keys as dotted ones: `{model: {use_liger: true}}` is `model.use_liger`."""
    found: Config = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _put(tree: Config, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
    tree[last] = value


def literal(text: str) -> str:
    """Hydra reads ${…} as a reference; a path means what it says."""
    return text.replace("${", "\\${")
