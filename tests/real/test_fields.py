"""Fields of the training act in LLaMA-Factory: seen on the optimizer, model and loader that its trainer really uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.contract import Topology
from recipes import load
from runner.runs import rundir as rundir
from runner.training.planning import make_plan
from runner.training.prepare import prepare
from runner.training.train import Options, prepare_recipe, train_prepared
from tests.real.conftest import inside

pytestmark = pytest.mark.real

FIELDS: dict[str, list[str]] = {
    "plain": [],
    "adafactor": ["training.optimizer=adafactor"],
    "muon": ["training.optimizer=muon"],
    "eps": ["training.optimizer_options.eps=1e-6", "training.betas=[0.8, 0.95]"],
    "neftune": ["training.neftune_alpha=5"],
    "lora+": ["tuning.lora_plus_ratio=16"],
    "freeze": ["tuning={type: freeze, layers: 1, modules: [mlp]}"],
    "by length": ["training.group_by_length=true", "training.dataloader_workers=1"],
    "packed": ["data.packing=true", "training.global_batch_size=1", "training.micro_batch_size=1"],
}
LOOK = """
import json, re, sys, yaml
from adapters.llamafactory.packs import Packs
from llamafactory.train.tuner import run_exp
from transformers import TrainerCallback

class Look(TrainerCallback):
    def on_step_end(self, args, state, control, model, optimizer, train_dataloader, **kwargs):
        inner = getattr(optimizer, "optimizer", optimizer)
        loader = getattr(train_dataloader, "base_dataloader", train_dataloader)
        seen.append({
            "optimizer": type(inner).__name__,
            "options": {key: inner.defaults[key] for key in ("betas", "eps") if key in inner.defaults},
            "rates": sorted({group["initial_lr"] for group in inner.param_groups}),
            "noise": len(model.get_input_embeddings()._forward_hooks),
            "sampler": type(loader.batch_sampler.sampler).__name__,
            "workers": loader.num_workers,
            "attention": model.config._attn_implementation,
            "trained": sorted({found[0] for name, weight in model.named_parameters() if weight.requires_grad
                               for found in [re.search(r"layers[.][0-9][.](mlp|self_attn)", name)]}),
        })

found = {}
for name, file in json.loads(sys.argv[1]).items():
    config, seen = yaml.safe_load(open(file)), []
    packs = Packs()
    if config.get("neat_packing"):
        packs.install()
    class Use(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            if config.get("neat_packing"):
                packs.use(model)
    run_exp(config, callbacks=[Look(), Use()])
    found[name] = seen[0]
print(json.dumps(found))
"""


def test_each_field_acts(llamafactory_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    files = {}
    for name, overrides in FIELDS.items():
        given = [f"model.path={tiny_model}", "training.max_steps=1", "eval={}", "data.validation={}", *overrides]
        loaded = load("quickstart", [*given, "data.train[0].max_samples=24", "training.learning_rate=1e-3"])
        run = rundir.create(loaded, tmp_path, name.replace(" ", "-").replace("+", "-plus"))
        prepare(run, loaded.recipe, llamafactory_python, str(tiny_model), print)
        plan = make_plan(loaded, Topology(), run.path, python=llamafactory_python)
        files[name] = run.path / "train.yaml"
        config = yaml.safe_load(plan.files["backend/train.yaml"])
        files[name].write_text(yaml.safe_dump(config | {"report_to": "none"}))
    shown = inside(llamafactory_python, LOOK, json.dumps(files, default=str), cwd=tmp_path).splitlines()[-1]
    found: dict[str, dict[str, Any]] = json.loads(shown)
    plain = {"optimizer": "AdamW", "rates": [1e-3], "noise": 0, "workers": 0}
    plain |= {"trained": [f"layers.{layer}.{part}" for layer in (0, 1) for part in ("mlp", "self_attn")]}
    plain |= {"options": {"betas": [0.9, 0.999], "eps": 1e-8}}
    plain |= {"sampler": "SeedableRandomSampler", "attention": "sdpa"}
    assert found == {
        "plain": plain,
        "adafactor": plain | {"optimizer": "Adafactor", "options": {"eps": [1e-30, 1e-3]}},
        "muon": plain | {"optimizer": "Muon", "options": {}},
        "eps": plain | {"options": {"betas": [0.8, 0.95], "eps": 1e-6}},
        "neftune": plain | {"noise": 1},
        "lora+": plain | {"rates": [1e-6, 1e-3, 16e-3]},
        "freeze": plain | {"trained": ["layers.1.mlp"]},
        "by length": plain | {"sampler": "LengthGroupedSampler", "workers": 1},
        "packed": plain | {"attention": "packed"},
    }


COPIES = """
import shutil, sys, torch
from transformers import AutoModelForCausalLM
source, *targets = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
for target, dtype in zip(targets, (torch.bfloat16, torch.float32)):
    shutil.copytree(source, target)
    model.to(dtype).save_pretrained(target)
"""


def test_fp32_is_fp32_whatever_the_checkpoint_is_in(
    llamafactory_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """The same weights in two files, of 16 bits and of 32, train alike: with a frozen base and with frozen layers."""
    copies = [tmp_path / "in16", tmp_path / "in32"]
    inside(llamafactory_python, COPIES, str(tiny_model), *map(str, copies), cwd=tmp_path)
    for number, tuning in enumerate(("{type: lora}", "{type: freeze, layers: 1, modules: [mlp]}")):
        losses = []
        for model in copies:
            given = [f"model.path={model}", f"tuning={tuning}", "training.precision=fp32", "training.max_steps=2"]
            loaded = load("quickstart", [*given, "eval={}", "data.validation={}", "data.train[0].max_samples=16"])
            options = Options(runs_dir=tmp_path / "runs", name=f"{model.name}-{number}", say=print)
            run = train_prepared(prepare_recipe(loaded, Topology(), options), loaded, Topology(), options)
            losses.append([step["loss"] for step in run.steps() if "loss" in step])
        assert losses[0] == losses[1] and len(losses[0]) == 2


# An adapter's gradients in bf16 as PEFT computes them and with inputs kept, both beside those in fp32.
INPUTS = """
import copy, json, sys, torch
from types import SimpleNamespace
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from adapters.llamafactory.train import keep_inputs

torch.manual_seed(0)
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
model = get_peft_model(base, LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False))
for weight in model.parameters():
    weight.data = weight.data.float() if weight.requires_grad else weight.data
exact = copy.deepcopy(model).float()
ids = torch.randint(0, 200, (2, 64))

def trained(model, autocast):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    found = [weight.grad.clone() for weight in model.parameters() if weight.requires_grad]
    model.zero_grad()
    size = sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in kept}.values())
    return loss.item(), torch.cat([one.flatten() for one in found]), size

_, right, _ = trained(exact, False)
found = []
for precision in ({}, {"bf16": True}):
    keep_inputs(SimpleNamespace(**{"bf16": False, "fp16": False, "deepspeed": None, **precision}), model)
    loss, gradient, kept = trained(model, True)
    found.append({"loss": loss, "error": float((gradient - right).norm() / right.norm()), "kept": kept})
print(json.dumps(found))
"""


@pytest.mark.slow
def test_inputs_of_adapters_that_stay_in_bf16_change_no_loss_and_keep_less(
    llamafactory_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    peft, ours = json.loads(inside(llamafactory_python, INPUTS, str(tiny_model), cwd=tmp_path).splitlines()[-1])
    assert ours["loss"] == peft["loss"]
    assert 0 < ours["error"] < 1.05 * peft["error"] < 0.05
    # Of each layer: one input of q, k and v, one of gate and up, and that of o, which the attention keeps as well.
    copies, tokens, bf16 = 2 + 1 + 1, 2 * 64, 2
    config = json.loads((tiny_model / "config.json").read_text())
    assert peft["kept"] - ours["kept"] == copies * tokens * bf16 * config["hidden_size"] * config["num_hidden_layers"]
