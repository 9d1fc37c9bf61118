"""GRPO for real on a CPU, with Ray, vLLM and FSDP2 on a Qwen3 of two layers: a kill, a resume, a failing reward."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from adapters import backend
from adapters.contract import Paths, Topology
from adapters.verl import grpo
from recipes import load, trainings
from recipes.made import of_each_kind
from runner.machine import process
from runner.runs.rundir import Run
from tests.real.conftest import Recipe, inside, metrics, steps, write_plans
from tests.real.test_llamafactory_backend import start, wait_for_end, wait_for_step
from tests.real.test_nodes import free_port, node
from tests.real.test_verl_backend import FULL

pytestmark = pytest.mark.real

GPUS = Topology(gpus=8, processes=8, devices=tuple("01234567"))
# Random weights write no numbers: what they can earn is for their words.
REWARDS = "grpo.rewards=[{type: regex, pattern: '[a-m]'}, {type: length, target: 5, weight: 0.5}]"
SMALL = [
    "checkpoint.every=2", "checkpoint.keep=1", "eval.loss_every=2", "data.train[0].max_samples=12",
    "training.max_steps=4", "training.global_batch_size=2", "training.micro_batch_size=8",
    "grpo.rollouts={n: 4, max_reply_length: 8}", REWARDS,
]  # fmt: skip


def short(model: Path, *overrides: str) -> list[str]:
    given = [f"model.path={model}", *SMALL, *overrides]
    return ["run", "grpo_sums", "--no-eval", *(part for text in given for part in ("--set", text))]


# Whether the exported adapter loads on its base and changes it.
LOADED = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter = sys.argv[1:]
ids = AutoTokenizer.from_pretrained(adapter)("What is 2 + 3?", return_tensors="pt").input_ids
model = AutoModelForCausalLM.from_pretrained(base)
before = model(ids).logits
after = PeftModel.from_pretrained(model, adapter)(ids).logits
print(bool((before != after).any()), bool(torch.isfinite(after).all()))
"""


def shared_memory(run: Path) -> list[Path]:
    """What a run that goes on holds of it: 400 MB, that vLLM does not give back when it is ended."""
    directory = grpo.ray_directory(Paths(run=run, python=Path(), model=""))
    return [Path(line) for line in Path(f"{directory}.segments").read_text().splitlines()]


def nothing_left(run: Path, held: list[Path]) -> bool:
    marks = (Run(run).mark(), Run(run).mark(1))
    return bool(held) and not any(file.exists() for file in held) and not any(map(process.marked, marks))


def kill_one(run: Path, title: str) -> None:
    """Kill a process of Ray outright by its title."""
    names = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in process.marked(Run(run).mark())}
    (pid,) = (pid for pid, name in names.items() if title in name)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_trains_to_its_end(
    killed: bool, recipe: Recipe, tiny_qwen3: Path, verl_python: Path, tmp_path: Path
) -> None:
    """Each step once, the rollouts and whole checkpoints kept, nothing of Ray or vLLM left, after a kill -9 too."""
    run = tmp_path / "runs" / "own"
    runner = start([*short(tiny_qwen3), "--name", "own"], tmp_path)
    wait_for_step(run, 3, runner)
    held = shared_memory(run)
    if killed:
        runner.kill()
        runner.wait()
        wait_for_end(run)
        assert nothing_left(run, held)
        assert "resuming from step 2" in recipe("resume", "own", "--no-eval").stderr
        assert not process.marked(Run(run).mark())
    else:
        assert runner.wait(600) == 0 and nothing_left(run, held)
    assert steps(run) == [1, 2, 3, 4]
    lines = metrics(run)
    wanted = {
        "reward", "reward/regex", "reward/length", "kl", "entropy", "reply_length", "clip_fraction", "loss", "tokens",
        "learning_rate", "grad_norm", "step_time_s", "epoch", "memory_gb",
    }  # fmt: skip
    assert all(line.keys() >= wanted for line in lines if "loss" in line)
    assert [line["learning_rate"] for line in lines if "loss" in line] == [5e-4] * 4
    assert [line["step"] for line in lines if "eval_reward" in line] == [0, 2, 4]
    assert all(line["reward"] == pytest.approx(line["reward/regex"] + line["reward/length"] / 2) for line in lines[1:])
    assert {file.name for file in (run / "rollouts/validation").iterdir()} == {"0.jsonl", "2.jsonl", "4.jsonl"}
    assert {file.name for file in (run / "rollouts/train").iterdir()} == {"1.jsonl", "2.jsonl", "4.jsonl"}
    sample = json.loads((run / "rollouts/validation/4.jsonl").read_text().splitlines()[0])
    assert {"input", "output", "gts", "score"} <= sample.keys()
    assert [c.name for c in (run / "checkpoints").glob("global_step_*")] == ["global_step_4"]
    shown = inside(verl_python, LOADED, str(tiny_qwen3), str(run / "model"), cwd=tmp_path)
    assert shown.splitlines()[-1] == "True True"


@pytest.mark.slow
def test_a_reward_that_raises_ends_the_run_and_is_named(recipe: Recipe, tiny_qwen3: Path, tmp_path: Path) -> None:
    """Full training; the first step's eight rewards are well, and of the second step none is trained on."""
    (tmp_path / "own.py").write_text(
        "calls = []\ndef polite(reply, reference, row):\n    calls.append(reply)\n"
        "    if len(calls) > 8: raise ValueError(f'no words for {row[\"answer\"]}')\n    return len(reply) % 7\n"
    )
    path = str(tmp_path / "own.py:polite")
    rewards = f"grpo.rewards=[{{type: function, path: {path}}}]"
    done = recipe(
        *short(tiny_qwen3, FULL, rewards, "eval.loss_every=null", "checkpoint.every=1"), "--name", "own", code=1
    )
    assert "rewards failed; the first: " in done.stderr and "own.py:4: ValueError: no words for" in done.stderr
    run = tmp_path / "runs" / "own"
    assert steps(run) == [1] and not process.marked(Run(run).mark())
    assert [c.step for c in backend("verl").checkpoints(run / "checkpoints")] == [1]


@pytest.mark.slow
@pytest.mark.parametrize("advantage", ["dr_grpo", "rloo", "reinforce++"])
def test_every_advantage_trains(advantage: str, recipe: Recipe, tiny_qwen3: Path, tmp_path: Path) -> None:
    recipe(*short(tiny_qwen3, f"grpo.advantage={advantage}", "grpo.clip_ratio_high=0.28"), "--name", "run")
    assert steps(tmp_path / "runs" / "run") == [1, 2, 3, 4]


@pytest.mark.slow
def test_micro_batches_by_tokens_train(recipe: Recipe, tiny_qwen3: Path, tmp_path: Path) -> None:
    """Rows stand one behind the other, without padding; that this changes no loss is a test of verl's SFT."""
    fields = ("training.max_steps=2", "eval.loss_every=null", "distributed.max_tokens_per_device=520")
    recipe(*short(tiny_qwen3, *fields), "--name", "run")
    first, second = (line["kl"] for line in metrics(tmp_path / "runs/run") if "loss" in line)
    assert first == pytest.approx(0, abs=1e-5) and 0 < abs(second) < 1


@pytest.mark.slow
def test_an_engine_that_dies_ends_the_run(tiny_qwen3: Path, tmp_path: Path) -> None:
    """verl by itself waits for its replies for ever, where it does not ask the engine just then."""
    run = tmp_path / "runs" / "died"
    runner = start([*short(tiny_qwen3, "training.max_steps=500"), "--name", "died"], tmp_path)
    wait_for_step(run, 1, runner)
    held = shared_memory(run)
    kill_one(run, "VLLM::EngineCore")
    assert runner.wait(120) == 1 and nothing_left(run, held)
    reason = json.loads((run / "run.json").read_text())["reason"]
    assert "a process of the training died" in reason or "a training process died" in reason


def on_both(arguments: list[str], cwd: Path) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Start the command on node 1 and on node 0."""
    port = free_port()
    return node(1, port, arguments, cwd), node(0, port, arguments, cwd)


def both(model: Path) -> list[str]:
    """Full training with the divergence in the reward."""
    return [*short(model, FULL, "grpo.kl_in=reward", "training.micro_batch_size=4"), "--name", "both"]


def ended_well(run: Path, nodes: tuple[subprocess.Popen[str], ...]) -> None:
    said = [process_.communicate(timeout=900)[1] for process_ in nodes]
    assert [process_.returncode for process_ in nodes] == [0, 0], said
    assert steps(run) == [1, 2, 3, 4]
    # The reference is the model at the start, after a resume too.
    first_kl, *kls = (line["kl"] for line in metrics(run) if "loss" in line)
    assert first_kl == pytest.approx(0, abs=1e-5) and all(0 < abs(kl) < 1 for kl in kls)
    assert (run / "model/model.safetensors").is_file() and not (run / "backend/ray_token").exists()
    assert process.marked(Run(run).mark()) == process.marked(Run(run).mark(1)) == []


@pytest.mark.slow
def test_two_nodes_train_together_through_ray(tiny_qwen3: Path, tmp_path: Path) -> None:
    ended_well(tmp_path / "runs" / "both", on_both(both(tiny_qwen3), tmp_path))


@pytest.mark.slow
def test_a_lost_node_ends_both_and_both_go_on(tiny_qwen3: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "both"
    other, first = on_both(both(tiny_qwen3), tmp_path)
    wait_for_step(run, 3, first)
    held = shared_memory(run)
    other.kill()
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 1 and "a node of the run was lost" in said
    assert nothing_left(run, held)
    ended_well(run, on_both(["resume", "both", "--no-eval"], tmp_path))
    attempts = json.loads((run / "run.json").read_text())["attempts"]
    assert [attempt["resume_from"] for attempt in attempts] == [None, 2]


COMPOSE = """
import json, sys
from pathlib import Path
sys.path.insert(0, str(Path(next(p for p in sys.path if "recipe-runner/code" in p), "adapters/verl/as_vllm")))
from hydra import compose, initialize_config_dir
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
for name in json.loads(sys.argv[1]):
    with initialize_config_dir(str(Path(name, "backend").resolve()), version_base=None):
        config = compose("train")
    parts = {part: omega_conf_to_dataclass(config.actor_rollout_ref[part]) for part in ("actor", "rollout")}
    omega_conf_to_dataclass(config.actor_rollout_ref.ref.fsdp_config)
    omega_conf_to_dataclass(config.algorithm), omega_conf_to_dataclass(config.actor_rollout_ref.model)
    validate_config(config, need_reference_policy(config), need_critic(config))
    actor = parts["actor"]
    print(name, actor.strategy, actor.engine.strategy, actor.optim.lr, need_reference_policy(config))
"""


def plans() -> dict[str, list[str]]:
    """Overrides of the catalogue's GRPO recipes and of every tuning and strategy that goes together."""
    named = {name: [name] for name in (*trainings(), *of_each_kind()) if load(name).recipe.method == "grpo"}
    batch = "training.global_batch_size=16"  # 128 replies, 16 on each of eight GPUs
    for tuning, strategy in itertools.product(("{type: lora, rank: 8}", "{type: full}"), ("fsdp", "fsdp2")):
        name = f"{'full' if 'full' in tuning else 'lora'}-{strategy}"
        named[name] = ["grpo_sums", batch, f"tuning={tuning}", f"distributed.strategy={strategy}"]
    named["reward"] = ["grpo_sums", batch, "grpo.kl_in=reward", "grpo.mini_batch_size=8", "grpo.rollouts.top_p=0.9"]
    for advantage in ("dr_grpo", "rloo", "reinforce++"):
        named[advantage] = ["grpo_sums", batch, f"grpo.advantage={advantage}", "grpo.clip_ratio_high=0.28"]
    named["nothing"] = ["grpo_sums", batch, "grpo.kl_coef=0", "distributed.max_tokens_per_device=512"]
    return named


@pytest.mark.slow
def test_verl_composes_every_plan(verl_python: Path, tmp_path: Path, tiny_qwen3: Path) -> None:
    """With its own Hydra tree, its own dataclasses and its own check."""
    written = write_plans(plans(), (Topology(), GPUS), verl_python, tiny_qwen3, tmp_path)
    shown = [
        line.split() for line in inside(verl_python, COMPOSE, json.dumps(list(written)), cwd=tmp_path).splitlines()
    ]
    rows = {row[0]: row[1:] for row in shown if row and row[0] in written}
    assert {name: float(row[2]) for name, row in rows.items()} == written
    assert {"lora-fsdp2-cpu", "full-fsdp-cuda", "reward-cuda", "gsm8k_grpo-cuda", "grpo_sums-cpu"} <= rows.keys()
    assert all(row[0] == row[1] == name.split("-")[1] for name, row in rows.items() if "-fsdp" in name)
    assert rows["nothing-cuda"][3] == "False" and rows["reward-cuda"][3] == "True"
