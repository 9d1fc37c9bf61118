"""verl for real: SFT with LoRA and full training on a CPU, its result, a resume, and every plan in its own tree."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from pathlib import Path

import pytest

from adapters.contract import Topology
from adapters.verl import options
from recipes import load, trainings
from recipes.made import of_each_kind
from runner.files import code_directory
from runner.machine import process
from runner.machine.process import clean_environment
from tests.real.conftest import Recipe, RunOnce, inside, losses, metrics, steps, write_plans
from tests.real.test_llamafactory_backend import start_and_kill

pytestmark = pytest.mark.real

# 22 rows are trained and 2 held out: three steps an epoch, the last of six rows.
QUICK = ["--no-eval", "--set", "backend=verl", "--set", "data.train[0].max_samples=24", "--set", "checkpoint.every=2"]
GPUS = Topology(gpus=8, processes=8, devices=tuple("01234567"))


def short(model: Path, *overrides: str, steps: int = 4) -> list[str]:
    given = [f"model.path={model}", f"training.max_steps={steps}", "eval.loss_every=2", *overrides]
    return ["run", "quickstart", *QUICK, *(part for text in given for part in ("--set", text))]


def path_of(done: subprocess.CompletedProcess[str]) -> Path:
    return Path(done.stdout.splitlines()[-1])


# The loss of a model on the validation rows as one batch: what verl reports at the last step.
LOSS = """
import json, sys, torch
from datasets import load_from_disk
from transformers import AutoModelForCausalLM
run, base = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base or run + "/model")
kinds = {str(p.dtype) for p in model.parameters()}
if base:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, run + "/model")
model.eval()
total = count = 0
for row in load_from_disk(run + "/data/tokenized")["validation"]:
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
    with torch.no_grad():
        logits = model(ids).logits.float()
    total += torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum").item()
    count += (labels[0, 1:] != -100).sum().item()
print(json.dumps([total / count, sorted(kinds)]))
"""
LORA = "tuning={type: lora, rank: 8, alpha: 24, dropout: 0.1, rslora: true}"
DORA = ["tuning={type: lora, rank: 4, dora: true, init: orthogonal}", "model={path: acme/tiny, revision: v1}"]
FULL = "tuning={type: full}"
SCHEDULE = ["training.learning_rate=1e-3", "training.warmup_ratio=0.25", "training.weight_decay=0.1"]
BATCH = "training.global_batch_size=32"  # four rows on each of eight GPUs


@pytest.mark.parametrize(
    "tuning",
    [[LORA, *SCHEDULE], *(pytest.param(other, marks=pytest.mark.slow) for other in (DORA, [FULL]))],
    ids=["lora", "dora", "full"],
)
def test_it_trains_and_its_result_is_what_was_trained(
    tuning: list[str], run_once: RunOnce, tiny_model: Path, verl_python: Path, on_the_hub: Path
) -> None:
    """The exported model has the loss that verl measured at the last step, in float32, with its tokenizer.

    One is trained on a revision on the hub, for which verl has no key.
    """
    run = run_once(*short(tiny_model, *tuning))
    assert steps(run) == [1, 2, 3, 4]
    wanted = {
        "loss",
        "learning_rate",
        "grad_norm",
        "epoch",
        "tokens",
        "step_time_s",
        "supervised_tokens_per_s",
        "memory_gb",
    }
    assert metrics(run)[0].keys() >= wanted
    base = "" if tuning == [FULL] else str(on_the_hub)
    loss, kinds = json.loads(inside(verl_python, LOSS, str(run), base, cwd=run).splitlines()[-1])
    measured = [line["eval_loss"] for line in metrics(run) if "eval_loss" in line]
    assert len(measured) == 2 and loss == pytest.approx(measured[-1], abs=2e-5)
    assert kinds == ["torch.float32"]
    kept = {file.name for file in (run / "model").iterdir()}
    weights = {"adapter_model.safetensors", "adapter_config.json"} if base else {"model.safetensors", "config.json"}
    assert kept >= weights | {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["state"] == "succeeded" and manifest["versions"]["verl"] == "0.9.1"


def test_the_learning_rate_is_that_of_the_step(run_once: RunOnce, tiny_model: Path) -> None:
    """Warmup from zero over one step, then cosine: transformers' numbers."""
    run = run_once(*short(tiny_model, LORA, *SCHEDULE))
    rates = [line["learning_rate"] for line in metrics(run) if "loss" in line]
    assert rates == pytest.approx([0.0, 1e-3, 7.5e-4, 2.5e-4], rel=1e-6)
    assert [line["epoch"] for line in metrics(run) if "loss" in line] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3])


@pytest.mark.slow
def test_what_saves_time_or_memory_changes_no_loss(run_once: RunOnce, tiny_model: Path) -> None:
    plain = run_once(*short(tiny_model, FULL))
    for changed in (
        ["distributed.max_tokens_per_device=2048"],
        ["training.gradient_checkpointing=true", "training.micro_batch_size=1"],
    ):
        other = run_once(*short(tiny_model, FULL, *changed))
        assert losses(other) == pytest.approx(losses(plain), abs=1e-5), changed


@pytest.mark.slow
def test_killed_at_random_and_resumed_it_ends_as_if_never_killed(
    recipe: Recipe, run_once: RunOnce, tiny_model: Path, tmp_path: Path
) -> None:
    """At the end of an epoch, where verl's own loader would give an empty one; within one, see the pauses."""
    arguments = short(tiny_model, LORA, "checkpoint.every=3", steps=8)
    run, whole = tmp_path / "runs" / "killed", run_once(*arguments)
    start_and_kill([*arguments, "--name", "killed"], run, tmp_path, random.Random(3).randint(4, 7))
    assert "resuming from step" in recipe("resume", "killed", "--no-eval").stderr
    assert steps(run) == list(range(1, 9)) and losses(run) == losses(whole)
    weights = [r / "model" / "adapter_model.safetensors" for r in (run, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert len(list((run / "checkpoints").glob("global_step_*"))) <= 3


@pytest.mark.slow
def test_two_processes_train_the_same(
    recipe: Recipe, run_once: RunOnce, tiny_model: Path, verl_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP2 over gloo: each process holds half of each matrix; put together again, in the dtype that is asked for."""
    one = run_once(*short(tiny_model, FULL))
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    two = path_of(recipe(*short(tiny_model, FULL)))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    assert (two / "checkpoints/global_step_4/model_world_size_2_rank_1.pt").is_file()
    export(verl_python, two, "half", "bf16")
    shown = inside(verl_python, WEIGHTS, str(one / "model"), str(two / "model"), str(two / "half"), cwd=two)
    (_, exact), (one_kind, two_kind, half_kind) = map(json.loads, shown.splitlines()[-2:])
    assert exact < 1e-4
    assert (one_kind, two_kind, half_kind) == ("torch.float32", "torch.float32", "torch.bfloat16")
    assert json.loads((two / "half/config.json").read_text())["dtype"] == "bfloat16"


def export(python: Path, run: Path, target: str, dtype: str) -> None:
    env = clean_environment({"PYTHONPATH": str(code_directory())})
    command = [*process.wrapped(), str(python), "-m", "adapters.verl.export", "checkpoints", target, dtype]
    subprocess.run(command, cwd=run, env=env, check=True, capture_output=True)


WEIGHTS = """
import json, sys
from safetensors.torch import load_file
one, two, half = (load_file(f"{directory}/model.safetensors") for directory in sys.argv[1:])
assert one.keys() == two.keys() == half.keys()
print(json.dumps([len(one), max(float((one[name] - two[name]).abs().max()) for name in one)]))
print(json.dumps([" ".join(sorted({str(t.dtype) for t in weights.values()})) for weights in (one, two, half)]))
"""


ADAPTERS = """
import sys
from pathlib import Path
from adapters.initial_adapter import make
from safetensors.torch import load_file
options = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.25, "target_modules": "all-linear", "use_rslora": True}
found = {}
for name, seed in (("a", 1), ("b", 1), ("c", 2)):
    told = {"model": sys.argv[1], "revision": None, "trust_remote_code": False, "seed": seed, "options": options}
    told |= {"init": "default"}
    make(told, Path(name))
    found[name] = load_file(f"{name}/adapter_model.safetensors")
same = lambda x, y: all(bool((found[x][k] == found[y][k]).all()) for k in found[x])
first = {k: v for k, v in found["a"].items() if ".lora_A." in k}
print(same("a", "b"), same("a", "c"), all(not v.any() for k, v in found["a"].items() if ".lora_B." in k))
print(len(first), max(float(v.abs().max() * v.shape[1] ** 0.5) for v in first.values()) <= 1)
"""


def test_the_initial_adapter_follows_the_seed_alone(tiny_model: Path, verl_python: Path, tmp_path: Path) -> None:
    shown = inside(verl_python, ADAPTERS, str(tiny_model), cwd=tmp_path).splitlines()
    assert shown[-2:] == ["True False True", "14 True"]
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    assert (config["r"], config["lora_dropout"], config["use_rslora"]) == (4, 0.25, True)


ROWS = """
import datasets, torch
from types import SimpleNamespace as Namespace
from adapters.verl.optimizer import AdamW
from adapters.verl.rows import TokenizedRows
rows = [{"input_ids": [n, 7, 8], "attention_mask": [1] * 3, "labels": [n, -100, 8]} for n in range(10)]
datasets.Dataset.from_list(rows).save_to_disk("rows")
def made(seed):
    return TokenizedRows("rows", Namespace(pad_token_id=5), Namespace(seed=seed, train_batch_size=4))
first = [made(1)[n] for n in range(12)]
print(len(made(1)), sorted(int(row["input_ids"][0]) for row in first[:10]) == list(range(10)))
print([row["loss_mask"].tolist() for row in (first[0], first[11])], first[11]["input_ids"].tolist())
print([int(made(s)[0]["input_ids"][0]) == int(first[0]["input_ids"][0]) for s in (1, 2)])
matrix, norm = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
groups = AdamW([matrix, norm], lr=0.1, weight_decay=0.5, betas=(0.9, 0.99)).param_groups
print([(len(g["params"]), g["weight_decay"]) for g in groups])
"""


def test_rows_fill_up_the_last_batch_without_weight(verl_python: Path, tmp_path: Path) -> None:
    shown = inside(verl_python, ROWS, cwd=tmp_path).splitlines()[-4:]
    assert shown == ["12 True", "[[0, 0, 1], [0, 0]] [5, 5]", "[True, False]", "[(1, 0.5), (1, 0.0)]"]


COMPOSE = """
import json, sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from verl.utils.config import omega_conf_to_dataclass
for name in json.loads(sys.argv[1]):
    with initialize_config_dir(str(Path(name, "backend").resolve()), version_base=None):
        config = compose("train")
    made = {part: omega_conf_to_dataclass(config[part]) for part in ("model", "engine", "optim", "checkpoint")}
    assert config.trainer.total_epochs and config.data.train_batch_size
    print(name, type(made["engine"]).__name__, type(made["optim"]).__name__, made["optim"].lr)
"""


def plans() -> dict[str, list[str]]:
    """Overrides of the catalogue's SFT recipes and of every tuning and strategy that goes together."""
    named = {name: [name] for name in (*trainings(), *of_each_kind()) if sft_on_verl(name)}
    for tuning, strategy in itertools.product((LORA, FULL), ("fsdp", "fsdp2", "megatron")):
        name = f"{'full' if tuning == FULL else 'lora'}-{strategy}"
        named[name] = ["quickstart", BATCH, tuning, f"distributed.strategy={strategy}"]
    named["lora-megatron"][2] = "tuning={type: lora, rank: 8, dropout: 0.1}"  # it has no rslora
    moved = ["distributed.remove_padding=true", "distributed.max_tokens_per_device=512", "training.weight_decay=0.1"]
    named["moved"] = [
        "quickstart",
        BATCH,
        FULL,
        *moved,
        "distributed.offload_parameters=true",
    ]
    free = "backend_options={model.use_fused_kernels: true, engine.wrap_policy: {transformer_layer_cls_to_wrap: [X]}}"
    named["options"] = ["quickstart", BATCH, free]
    return named


def sft_on_verl(name: str) -> bool:
    recipe = load(name).recipe
    return recipe.method == "sft" and not recipe.tuning.quantization


def test_verl_composes_every_plan(verl_python: Path, tmp_path: Path, tiny_model: Path) -> None:
    """With its own Hydra tree and its own dataclasses; Megatron needs no GPU for that."""
    written = write_plans(plans(), (Topology(), GPUS), verl_python, tiny_model, tmp_path)
    shown = inside(verl_python, COMPOSE, json.dumps(list(written)), cwd=tmp_path).splitlines()[-len(written) :]
    rows = {line.split()[0]: line.split()[1:] for line in shown}
    assert {name: float(row[2]) for name, row in rows.items()} == written
    for name in ("full-megatron-cuda", "lora-megatron-cuda"):
        assert rows[name][:2] == ["McoreEngineConfig", "McoreOptimizerConfig"]
    assert rows["quickstart-cpu"][:2] == ["FSDPEngineConfig", "FSDPOptimizerConfig"]
    assert {"moved-cuda", "options-cuda", "lora-fsdp2-cpu", "lora-fsdp-cuda", "qwen3_4b_financial-cuda"} <= rows.keys()


def test_the_checked_in_tree_is_that_of_the_pinned_version(verl_python: Path, tmp_path: Path) -> None:
    code = "import json; from adapters.verl.describe import describe; print(json.dumps(describe()))"
    found = json.loads(inside(verl_python, code, cwd=tmp_path).splitlines()[-1])
    assert found == json.loads(options.FILE.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_wandb_is_written_offline_under_the_users_names(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """By the real client, which keeps what it would have sent."""
    names = {"WANDB_MODE": "offline", "WANDB_PROJECT": "my-project", "WANDB_NAME": "my-run"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        recipe(*short(tiny_model, LORA, "logging=[wandb]"), "--name", "logged")
    (kept,) = (tmp_path / "runs/logged/wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    assert b"my-project" in content and b"my-run" in content and b"train/loss" in content


# Files of verl that no plan of ours runs: its older and asynchronous trainers, engines of other strategies, and the
# definitions of the configuration, where every key has a name but need not be read.
ELSEWHERE = (
    "trainer/config", "trainer/main_ppo_v0", "trainer/ppo/ray_trainer", "trainer/sft_trainer_ray", "fully_async_policy",
    "one_step_off_policy", "experimental/separation", "trtllm_rollout", "engine/veomni", "engine/torchtitan",
    "engine/mindspeed", "engine/automodel",
)  # fmt: skip
READERS = """
import json, sys
from pathlib import Path
import transfer_queue, verl
wanted, elsewhere = json.loads(sys.argv[1])
roots = [Path(module.__path__[0]) for module in (verl, transfer_queue)]
texts = []
for file in (file for root in roots for file in root.rglob("*.py") if not any(part in str(file) for part in elsewhere)):
    lines = file.read_text(errors="ignore").splitlines()
    if "workers/config" in str(file):  # a field's own definition is no reader of it
        lines = [line for line in lines if not line.startswith("    ") or line.startswith("        ")]
    texts.append("\\n".join(lines))
whole = "\\n".join(texts)
import re
names = set(re.findall(r"\\w[\\w-]*", whole))
print(json.dumps([name for name in wanted if name not in names]))
"""


def test_each_native_key_of_grpo_that_acts_is_read(verl_python: Path, tmp_path: Path) -> None:
    """By its last name, in the code that our plan runs; below what is handed to a library whole, by that library."""
    acting = json.loads((Path(__file__).parents[1] / "adapters/native_acts.json").read_text())["verl grpo"]
    handed_on = ("distillation.", "profiler", "ray_kwargs.", ".engine_kwargs.", "MooncakeStore")
    leaves = sorted({key.rpartition(".")[2] for key in acting if not any(part in key for part in handed_on)})
    assert json.loads(inside(verl_python, READERS, json.dumps([leaves, ELSEWHERE]), cwd=tmp_path)) == []
