"""Native keys that are taken act: the backend itself reads each while it trains, with what the adapter gives it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from adapters.contract import Topology
from recipes import load
from recipes.files import write_text
from runner.files import code_directory
from runner.machine.process import clean_environment
from runner.runs import rundir
from runner.training.planning import make_plan
from runner.training.prepare import prepare
from tests.adapters.test_native_keys import ACTS
from tests.real.conftest import inside
from tests.real.test_verl_grpo import SMALL

pytestmark = [pytest.mark.real, pytest.mark.slow]

ON = ["training.gradient_checkpointing=true", "training.dataloader_workers=1", "eval={loss_every: 1}"]
PROFILED = '{"enable_torch_profiler": true, "use_eaft_loss": true}'
# Of native_acts.json, the recipe that shows it.
TRAININGS = {
    "llamafactory sft, all on": ("finance_lora", [*ON, "tuning.lora_plus_ratio=16", f"backend_options={PROFILED}"]),
    "llamafactory sft": ("finance_lora", ["eval={}"]),
    "llamafactory sft full": ("finance_full", ["eval={}", 'backend_options={"use_asft_loss": true}']),
    "llamafactory dpo, all on": ("finance_dpo", [*ON, 'backend_options={"ref_model": "MODEL"}']),
    "llamafactory kto": ("finance_kto", ["eval={}"]),
    "llamafactory orpo": ("finance_orpo", ["eval={}"]),
}
# What one process on a CPU, with the packages of our lock and a model of text, does not come to.
ELSEWHERE = {
    "of an optimizer whose package is missing, which LLaMA-Factory says": "(apollo|galore|badam)_.*",
    "of GPUs": "fp8.*|tf32|quantization_.*|ref_model_quantization_bit",
    "of several processes": "ddp_backend|average_tokens_across_devices",
    "of a run that is resumed": "ignore_data_skip|restore_callback_states_from_checkpoint",
    "of a logger": "run_name",
    "of models of more than text": "freeze_(language_model|multi_modal_projector|vision_tower)",
    "of another adapter": "adapter_folder|ref_model_adapters",
    "of gradient checkpointing, which is a field": "use_(reentrant|unsloth)_gc",
}
WALK = """
import collections, json, sys, yaml
from llamafactory.train import tuner

reads, watched = collections.defaultdict(set), set()
# Whole objects are written down, printed and copied without anything acting.
COPIES = {"to_dict", "to_json_string", "to_sanitized_dict", "asdict", "_asdict_inner", "__repr__", "__str__"}

def watch(kind):
    plain, names = kind.__getattribute__, set(kind.__dataclass_fields__)
    def read(self, name):
        if name in names:
            code = sys._getframe(1).f_code
            if code.co_name not in COPIES and not any(part in code.co_filename for part in ("/hparams/", "modelcard")):
                reads[name].add(code.co_filename)
        return plain(self, name)
    kind.__getattribute__ = read

parse = tuner.get_train_args
def parsed(args):
    found = parse(args)
    for kind in {type(one) for one in found} - watched:
        watched.add(kind)
        watch(kind)
    reads.clear()
    return found
tuner.get_train_args = parsed

found = {}
for name, file in json.loads(sys.argv[1]).items():
    tuner.run_exp(yaml.safe_load(open(file)))
    found[name] = sorted(reads)
print(json.dumps(found))
"""


def test_llamafactory_reads_each_key_that_is_taken(llamafactory_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    files = {}
    for name, (recipe, overrides) in TRAININGS.items():
        given = [f"model.path={tiny_model}", "training.max_steps=1", "training.global_batch_size=2"]
        given += ["training.micro_batch_size=1", *(one.replace("MODEL", str(tiny_model)) for one in overrides)]
        loaded = load(recipe, given)
        run = rundir.create(loaded, tmp_path, re.sub(r"\W+", "-", name))
        prepare(run, loaded.recipe, llamafactory_python, str(tiny_model), print)
        plan = make_plan(loaded, Topology(), run.path, python=llamafactory_python)
        files[name] = str(run.path / "train.yaml")
        config = yaml.safe_load(plan.files["backend/train.yaml"]) | {"report_to": "none"}
        Path(files[name]).write_text(yaml.safe_dump(config))
    read = json.loads(inside(llamafactory_python, WALK, json.dumps(files), cwd=tmp_path).splitlines()[-1])
    acting = json.loads(ACTS.read_text(encoding="utf-8"))
    for name in TRAININGS:
        seen = {*read[name], *read.get(name.removesuffix(", all on"), ())}  # one optimizer shuts another out
        elsewhere = re.compile("|".join(ELSEWHERE.values()))
        assert not {key for key in set(acting[name]) - seen if not elsewhere.fullmatch(key)}, name
    # The walk tells what is read from what is not: these are of a tokenizer and of chat, which do not run.
    assert not {"enable_thinking", "mask_history", "infer_backend"} & set().union(*map(set, read.values()))


VERL_CLASSES = {
    "engine": "FSDPEngineConfig",
    "optim": "FSDPOptimizerConfig",
    "model": "HFModelConfig",
    "profiler": "ProfilerConfig",
}
VERL_WALK = """
import json, sys
from pathlib import Path
from verl.base_config import BaseConfig

reads = set()
COPIES = {"asdict", "_asdict_inner", "__iter__", "__setattr__", "__repr__"}

def read(self, name):
    code = sys._getframe(1).f_code
    if code.co_filename.endswith("base_config.py") and code.co_name in ("get", "__getitem__"):
        code = sys._getframe(2).f_code
    if code.co_name not in COPIES:
        reads.add(f"{type(self).__name__}.{name}")
    return object.__getattribute__(self, name)

BaseConfig.__getattribute__ = read
from adapters.verl import train

train.main(Path(sys.argv[1]))
print(json.dumps(sorted(reads)))
"""


def test_verl_reads_each_key_that_is_taken(verl_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    given = ["backend=verl", f"model.path={tiny_model}", "training.max_steps=1", "training.global_batch_size=2"]
    loaded = load("finance_full", [*given, "training.micro_batch_size=1", "eval={}"])
    run = rundir.create(loaded, tmp_path, "run")
    prepare(run, loaded.recipe, verl_python, str(tiny_model), print)
    plan = make_plan(loaded, Topology(), run.path, python=verl_python)
    for name, text in plan.files.items():
        write_text(run.path / name, text)
    read = set(
        json.loads(inside(verl_python, VERL_WALK, "backend/train.yaml", cwd=run.path, env=plan.env).splitlines()[-1])
    )
    acting = json.loads(ACTS.read_text(encoding="utf-8"))["verl sft full"]
    unread = {key for key in acting if f"{VERL_CLASSES.get(key.split('.')[0])}.{key.split('.')[1]}" not in read}
    assert unread == {"engine.use_orig_params"}  # of the strategy fsdp; this one is fsdp2
    assert not {"HFModelConfig.tiled_mlp", "CheckpointConfig.strict"} & read  # so the walk tells them apart


WATCHED = Path(__file__).with_name("watched")
# The places of verl's tree that a key reaches: its own, and those that are made of it (`${oc.select:...}`). Each by its
# name, by the class that verl makes of the section, and by a section that is read whole, as a dictionary is.
PLACES = """
import copy, json, sys
from pathlib import Path
from omegaconf import OmegaConf, open_dict
from adapters.verl.compose import compose

config = compose(Path(sys.argv[1]))

def leaves(node, name=""):
    if not isinstance(node, dict) or not node:
        return {name: node}
    return {k: leaf for part in node for k, leaf in leaves(node[part], f"{name}.{part}".lstrip(".")).items()}

def names(key):
    parent, _, leaf = key.rpartition(".")
    section = OmegaConf.select(config, parent)
    kind = section.get("_target_") if OmegaConf.is_dict(section) else None
    return [key, *([f"{kind.rsplit('.', 1)[-1]}.{leaf}"] if kind else names(parent) if parent.count(".") > 1 else [])]

before, found = leaves(OmegaConf.to_container(config, resolve=True)), {}
for key in json.loads(sys.argv[2]):
    other = copy.deepcopy(config)
    with open_dict(other):
        OmegaConf.update(other, key, "other", merge=False)
    after = leaves(OmegaConf.to_container(other, resolve=True))
    found[key] = [name for place in after if after[place] != before.get(place) for name in names(place)]
print(json.dumps(found))
"""
# What this training, on a CPU, by FSDP2 and with a model of text, does not come to.
GRPO_ELSEWHERE = {
    "of the strategy fsdp": r".*\.(use_orig_params|wrap_policy\.min_num_params)",
    "of Ray's own start, which takes them all": r"ray_kwargs\.ray_init\..*",
    "of a section that verl makes into a class itself": r"skip\.rollout_tq\.enable",
}


@pytest.mark.parametrize("kl_in", ["loss", "reward"])
def test_verl_reads_each_key_of_grpo_that_is_taken(
    kl_in: str, verl_python: Path, tiny_qwen3: Path, tmp_path: Path
) -> None:
    given = [f"model.path={tiny_qwen3}", *SMALL, "training.max_steps=2", f"grpo.kl_in={kl_in}", "grpo.kl_coef=0.01"]
    loaded = load("grpo_sums", given)
    run = rundir.create(loaded, tmp_path, "run")
    prepare(run, loaded.recipe, verl_python, str(tiny_qwen3), print)
    plan = make_plan(loaded, Topology(), run.path, python=verl_python)
    for name, text in plan.files.items():
        write_text(run.path / name, text)
    (tmp_path / "reads").mkdir()
    path = os.pathsep.join([str(WATCHED), str(code_directory()), plan.env.get("PYTHONPATH", "")])
    watched = {**plan.env, "PYTHONPATH": path, "READS": str(tmp_path / "reads"), "RECIPE_RUN": run.mark()}
    for command in (*plan.before, plan.argv):
        subprocess.run(command, cwd=run.path, env=clean_environment(watched), check=True)
    read = {name for file in (tmp_path / "reads").iterdir() for name in file.read_text().splitlines()}
    acting = json.loads(ACTS.read_text(encoding="utf-8"))[
        "verl grpo kl in reward" if kl_in == "reward" else "verl grpo"
    ]
    config = str(run.path / "backend/train.yaml")
    places = json.loads(inside(verl_python, PLACES, config, json.dumps(acting), cwd=run.path))
    # What verl hands on is named from there: a section of two words and more.
    ends = {name for whole in read for name in (whole, f"transfer_queue.{whole}")}
    elsewhere = re.compile("|".join(GRPO_ELSEWHERE.values()))
    assert not {key for key in acting if not ends & set(places[key]) and not elsewhere.fullmatch(key)}
    assert not {"HFModelConfig.tiled_mlp", "RolloutConfig.do_sample"} & read  # so the walk tells them apart
