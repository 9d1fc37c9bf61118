"""An adapter's first values, and modules that are saved whole: what is exported is the trained model, on its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.contract import Topology
from recipes import load
from recipes.files import write_text
from runner.runs import rundir
from runner.training.planning import make_plan
from runner.training.prepare import prepare
from tests.real.conftest import Recipe, inside

pytestmark = pytest.mark.real

# Against PEFT's own olora, torch's whole SVD, and what the two others promise.
FIRST = """
import json, sys, torch
from pathlib import Path
from adapters.initial_adapter import make, make_residual
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM
options = {"r": 8, "lora_alpha": 32, "target_modules": "all-linear", "use_rslora": True, "use_dora": False}
base = lambda: AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
weights = {name: layer.weight.data for name, layer in base().named_modules() if isinstance(layer, torch.nn.Linear)}
layers = lambda model: {n.removeprefix("base_model.model."): m for n, m in model.named_modules()
                        if isinstance(m, LoraLayer)}
found = {}
for init in ("gaussian", "orthogonal", "pissa", "olora"):
    told = {"model": sys.argv[1], "revision": None, "trust_remote_code": False, "seed": 1, "init": init,
            "dtype": "fp32", "tokenizer": True, "options": options}
    make(told, Path(init))
    made = layers(PeftModel.from_pretrained(base(), init))
    product = {name: layer.get_delta_weight("default") for name, layer in made.items()}
    a = torch.cat([layer.lora_A["default"].weight.flatten() for layer in made.values()])
    b = torch.cat([layer.lora_B["default"].weight.flatten() for layer in made.values()])
    found[init] = [float(a.std()), float(b.std()), max(float(one.abs().max()) for one in product.values())]
    if init == "pissa":  # no matrix of this rank is nearer
        far = [float((weights[n] - one).norm() / torch.linalg.svdvals(weights[n])[8:].norm()) for n, one in
               product.items()]
        found[init] = [min(far), max(far)]
    if init == "olora":
        make_residual(told, Path(init), Path("residual"))
        theirs = get_peft_model(base(), LoraConfig(**options, init_lora_weights="olora"))
        ours = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("residual"), init)
        pairs = [(x, y) for x, y in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)]
        found[init] = [max(float((x - y).abs().max()) for x, y in pairs), found[init][2]]
print(json.dumps(found))
"""


def test_first_values_are_those_of_their_papers(tiny_model: Path, llamafactory_python: Path, tmp_path: Path) -> None:
    found = json.loads(inside(llamafactory_python, FIRST, str(tiny_model), cwd=tmp_path).splitlines()[-1])
    assert found["gaussian"] == [pytest.approx(1 / 8, rel=0.02), 0, 0]
    first, second, product = found["orthogonal"]
    assert min(first, second) > 0.05 and product < 1e-6
    assert found["pissa"] == [pytest.approx(1, abs=0.01), pytest.approx(1, abs=0.01)]
    difference, size = found["olora"]
    assert difference < 1e-5 < size


# Train, and ask the model as it lies in memory; then what is exported, on the recipe's own base.
TRAIN = """
import json, sys, torch, yaml
from pathlib import Path
from adapters.llamafactory.export import export
from eval.engines.loading import adapted, load_whole
from llamafactory.train.tuner import run_exp
from transformers import TrainerCallback

ids = torch.arange(5, 45)[None]
def ask(model):
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids).logits.float()

class Ask(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kwargs):
        seen["begun"] = ask(model)
        model.train()
    def on_train_end(self, args, state, control, model=None, **kwargs):
        seen["trained"] = ask(model)

base, run, *initial = sys.argv[1:]
seen = {}
run_exp(yaml.safe_load(open(f"{run}/train.yaml")), callbacks=[Ask()])
export(Path(run, "checkpoints"), Path(run, "model"), Path(run, "data/accounting.json"), None, *map(Path, initial))
found = ask(adapted(load_whole(base, dtype=torch.float32), Path(run, "model")))
before = ask(load_whole(base, dtype=torch.float32))
gap = lambda one, other: float((one - other).abs().max())
print(json.dumps({"begins": gap(seen["begun"], before), "learns": gap(seen["trained"], before),
                  "differs": gap(found, seen["trained"])}))
"""
STEP = "import runpy, sys; del sys.argv[0]; runpy.run_module(sys.argv[0], run_name='__main__')"
CASES: dict[str, list[str]] = {
    "default": [],
    "gaussian": ["tuning.init=gaussian"],
    "orthogonal": ["tuning.init=orthogonal", "tuning.dora=true"],
    "pissa": ["tuning.init=pissa"],
    "olora": ["tuning.init=olora", "tuning.rslora=true", "tuning.dropout=0.1"],
    "saved": ["tuning.modules_to_save=[lm_head, norm]"],
    "saved-embeddings": ["tuning.modules_to_save=[embed_tokens]", "tuning.init=pissa"],
}


SLOW = tuple(name for name in CASES if name != "pissa")


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in CASES])
def test_the_exported_adapter_is_the_trained_model_on_its_own_base(
    case: str, llamafactory_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    given = [f"model.path={tiny_model}", "training.max_steps=4", "training.learning_rate=0.01", "eval={}"]
    loaded = load("quickstart", [*given, "data.validation={}", "data.train[0].max_samples=24", *CASES[case]])
    run = rundir.create(loaded, tmp_path, case)
    prepare(run, loaded.recipe, llamafactory_python, str(tiny_model), print)
    plan = make_plan(loaded, Topology(), run.path, python=llamafactory_python)
    for name, text in plan.files.items():
        write_text(run.path / name, text)
    for command in plan.before:
        step = (
            "import runpy, sys; sys.argv[0] = 'step'; runpy.run_module('adapters.initial_adapter', run_name='__main__')"
        )
        inside(llamafactory_python, step, *command[3:], cwd=run.path)
    config = yaml.safe_load(plan.files["backend/train.yaml"]) | {"report_to": "none"}
    write_text(run.path / "train.yaml", yaml.safe_dump(config))
    initial = [part for part in plan.export[-1:] if "--initial" in plan.export]
    shown = inside(llamafactory_python, TRAIN, str(tiny_model), str(run.path), *initial, cwd=run.path)
    found: dict[str, Any] = json.loads(shown.splitlines()[-1])
    assert found["begins"] < 1e-4 and found["differs"] < 1e-3 and found["learns"] > 0.05, found
    written = json.loads((run.path / "model/adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(tiny_model)


WITHOUT_HEAD = """
import sys
from safetensors.torch import load_file, save_file
found = load_file(sys.argv[1])
save_file({name: tensor for name, tensor in found.items() if "lm_head" not in name}, sys.argv[1], {"format": "pt"})
"""


@pytest.mark.slow
def test_a_run_on_a_residual_is_scored_and_merged_as_the_model_that_was_trained(
    recipe: Recipe, tiny_model: Path, eval_python: Path, tmp_path: Path
) -> None:
    given = [f"model.path={tiny_model}", "training.max_steps=3", "data.train[0].max_samples=40", "eval.base=false"]
    given += ["eval.suites=[perplexity]", "tuning.init=pissa", "tuning.modules_to_save=[lm_head]"]
    sets = [part for field in given for part in ("--set", field)]
    run = Path(recipe("run", "quickstart", "--name", "r", *sets).stdout.splitlines()[-1])
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line["eval_loss"] for line in losses if "eval_loss" in line][-1]  # of the trainer itself, in memory
    scored = json.loads((run / "eval/results.json").read_text())["metrics"]["test_loss"]["value"]
    assert scored == pytest.approx(last, rel=1e-4)
    merged = Path(recipe("merge", "r").stdout.strip())
    assert json.loads((merged / "merge.json").read_text())["compared"]["largest_difference_nat"] < 1e-4

    inside(eval_python, WITHOUT_HEAD, str(run / "model/adapter_model.safetensors"), cwd=tmp_path)
    said = recipe("merge", "r", "--output", "other", code=1).stderr
    assert "the adapter lacks 'base_model.model.lm_head.weight', which its configuration names" in said


@pytest.mark.parametrize("field,said", [
    pytest.param("tuning.modules_to_save=[lm_haed]", "the model has no module lm_haed; it has", marks=pytest.mark.slow),
    ("tuning.target_modules=[q_proj, v_prj]", "the model has no module v_prj; it has"),
    pytest.param("tuning={modules_to_save: [rotary_emb, layers.1], target_modules: [q_proj]}",
                 "layers.1 holds model.layers.1.", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_module_that_the_adapter_would_not_be_of_ends_the_run(
    field: str, said: str, recipe: Recipe, tiny_model: Path
) -> None:
    done = recipe("run", "quickstart", "--set", f"model.path={tiny_model}", "--set", field, code=1)
    assert said in done.stderr
