"""LLaMA-Factory for real: every method and tuning, resume, interruption, and the same losses as without us."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from adapters import backend
from adapters.contract import Paths, PreparedData, Topology
from recipes import load, trainings
from recipes.made import of_each_kind
from runner.machine import process
from runner.machine.process import clean_environment
from runner.runs.rundir import Run
from tests.real.conftest import Recipe, RunOnce, inside, losses, metrics, steps

pytestmark = pytest.mark.real

OWN_METRICS = {
    "sft": set(),
    "dpo": {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"},
    "orpo": {"rewards/margins", "sft_loss", "odds_ratio_loss"},
    "simpo": {"rewards/margins", "rewards/accuracies"},
    "kto": {"rewards/chosen", "rewards/margins", "kl"},
}
QUICK = [
    "--no-eval",
    "--set",
    "training.max_steps=2",
    "--set",
    "eval.loss_every=2",
    "--set",
    "data.train[0].max_samples=24",
]
LORA = "tuning={type: lora}"
FULL = "tuning={type: full}"


def short(name: str, tiny_model: Path, *overrides: str) -> list[str]:
    return ["run", name, *QUICK, "--set", f"model.path={tiny_model}", *overrides]


ALIKE = ("orpo", "simpo")  # trained by the code that trains dpo, but for their loss
EACH = [
    pytest.param(
        method, tuning, marks=[pytest.mark.slow] if (tuning == FULL and method != "sft") or method in ALIKE else []
    )
    for method in OWN_METRICS
    for tuning in (LORA, FULL)
]


@pytest.mark.parametrize("method,tuning", EACH)
def test_every_method_and_tuning_trains(method: str, tuning: str, run_once: RunOnce, tiny_model: Path) -> None:
    name = "quickstart" if method == "sft" else f"finance_{method}"
    run = run_once(*short(name, tiny_model, "--set", tuning))
    assert steps(run) == [1, 2]
    assert metrics(run)[0].keys() >= OWN_METRICS[method] | {
        "loss",
        "learning_rate",
        "grad_norm",
        "epoch",
        "step_time_s",
        "supervised_tokens_per_s",
    }
    assert any("eval_loss" in line for line in metrics(run))
    kept = {file.name for file in (run / "model").iterdir()}
    weights = (
        {"adapter_model.safetensors", "adapter_config.json"} if tuning == LORA else {"model.safetensors", "config.json"}
    )
    assert kept >= weights | {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["state"] == "succeeded" and manifest["versions"]["llamafactory"] == "0.9.5"


def test_qlora_trains(recipe: Recipe, tiny_model: Path) -> None:
    done = recipe(*short("finance_qlora", tiny_model))
    assert len(losses(Path(done.stdout.splitlines()[-1]))) == 2


PARSE = """
import json, sys
from llamafactory.hparams import get_train_args
found = []
for config in json.loads(sys.argv[1]):
    model, data, training, tuning, _ = get_train_args(config)
    found.append([tuning.stage, tuning.lora_rank, training.learning_rate, training.do_train])
print(json.dumps(found))
"""


def test_its_own_parser_accepts_every_config(llamafactory_python: Path, tmp_path: Path, tiny_model: Path) -> None:
    names = [*trainings(), *of_each_kind()]
    recipes = [load(name, ["backend=llamafactory"]).recipe for name in names if load(name).recipe.method != "grpo"]
    module, configs = backend("llamafactory"), []
    for recipe in recipes:
        paths = Paths(run=tmp_path, python=llamafactory_python, model=str(tiny_model))
        plan = module.plan(recipe, Topology(), PreparedData(), paths)
        configs.append(yaml.safe_load(plan.files["backend/train.yaml"]) | {"bf16": False})  # a CPU may not have it
    shown = json.loads(inside(llamafactory_python, PARSE, json.dumps(configs), cwd=tmp_path).splitlines()[-1])
    for recipe, (stage, rank, *others) in zip(recipes, shown, strict=True):
        assert (
            stage
            == {
                "pretrain": "sft",
                "sft": "sft",
                "dpo": "dpo",
                "orpo": "dpo",
                "simpo": "dpo",
                "kto": "kto",
                "reward": "rm",
            }[recipe.method]
        )
        assert others == [recipe.training.learning_rate, True]
        assert rank == recipe.tuning.rank or recipe.tuning.type != "lora"


def test_the_checked_in_arguments_are_those_of_the_pinned_version(llamafactory_python: Path, tmp_path: Path) -> None:
    from adapters.llamafactory import options

    code = (
        "import json; from adapters.llamafactory.describe import describe; print(json.dumps(dict(sorted(describe()))))"
    )
    assert json.loads(inside(llamafactory_python, code, cwd=tmp_path).splitlines()[-1]) == json.loads(
        options.FILE.read_text(encoding="utf-8")
    )


def test_the_losses_are_those_of_llamafactory_without_us(
    run_once: RunOnce, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    run = run_once(*short("quickstart", tiny_model, "--set", LORA))
    config = yaml.safe_load((run / "backend/train.yaml").read_text())
    own, file = tmp_path / "own", tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(config | {"output_dir": str(own)}))
    subprocess.run(
        [str(llamafactory_python.parent / "llamafactory-cli"), "train", str(file)],
        cwd=run, env=clean_environment(), check=True, capture_output=True,
    )  # fmt: skip
    history = json.loads((own / "trainer_state.json").read_text())["log_history"]
    assert [line["loss"] for line in history if "loss" in line] == losses(run)


LONG = ["--set", "training.max_steps=12", "--set", "checkpoint.every=2", "--set", "tuning.dropout=0.1"]


RESIDUAL = ["--set", "tuning.init=pissa", "--set", "tuning.modules_to_save=[lm_head]"]


ADDED = ["--set", "model.add_tokens=[<ticker>, <isin>]"]


@pytest.mark.slow
@pytest.mark.cold
@pytest.mark.parametrize("more", [[], RESIDUAL, ADDED], ids=["", "residual", "tokens"])
def test_killed_at_random_and_resumed_it_ends_as_if_never_killed(
    more: list[str], recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    given = short("quickstart", tiny_model, *LONG, *more)
    whole = Path(recipe(*given, "--name", "whole").stdout.splitlines()[-1])
    run = tmp_path / "runs" / "killed"
    chance = random.Random(7)
    start_and_kill([*given, "--name", "killed"], run, tmp_path, chance.randint(3, 8))
    shutil.rmtree(run / "backend/residual", ignore_errors=True)  # a large thing, that can be made again
    assert "crashed" in recipe("runs").stdout
    done = recipe("resume", "killed", "--no-eval")
    assert "resuming from step" in done.stderr
    assert steps(run) == list(range(1, 13))
    assert losses(run) == losses(whole)
    weights = Path("model/adapter_model.safetensors")
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()
    assert "nothing to resume" in recipe("resume", "killed", code=2).stderr


SLOW = """
import os, sys, time
from transformers import Trainer
from adapters.llamafactory import train
save = Trainer._save_rng_state
def slow(trainer, directory):
    time.sleep(3 * int(os.environ["RANK"]))
    save(trainer, directory)
Trainer._save_rng_state = slow
train.main(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_waits_for_the_slower_one(
    run_once: RunOnce, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    run = run_once(*short("quickstart", tiny_model, "--set", LORA))
    config, file = yaml.safe_load((run / "backend/train.yaml").read_text()), tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(config | {"output_dir": str(tmp_path / "own")}))
    (tmp_path / "slow.py").write_text(SLOW)
    command = [str(llamafactory_python), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[2])})
    given = [str(tmp_path / "slow.py"), str(file), str(tmp_path / "metrics.jsonl")]
    subprocess.run([*command, *given], cwd=run, env=env, check=True, capture_output=True)
    (checkpoint,) = (tmp_path / "own").glob("checkpoint-*")
    last = (checkpoint / "trainer_state.json").stat().st_mtime_ns
    assert last >= (checkpoint / "rng_state_1.pth").stat().st_mtime_ns


def start_and_kill(arguments: list[str], run: Path, cwd: Path, step: int) -> None:
    """Start a run and kill the runner outright when a step is reached; its children must end too."""
    runner = start(arguments, cwd)
    wait_for_step(run, step, runner)
    runner.kill()
    runner.wait()
    wait_for_end(run)


def wait_for_end(run: Path) -> None:
    """Wait until no process of a run is left: what two backends share two cores with needs its time to end."""
    deadline = time.monotonic() + 120
    while left := process.marked(Run(run).mark()):
        assert time.monotonic() < deadline, f"processes outlived their runner: {[command_line(pid) for pid in left]}"
        time.sleep(0.1)


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return "ended"


def start(arguments: list[str], cwd: Path) -> subprocess.Popen[bytes]:
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[2])})
    return subprocess.Popen(
        [sys.executable, "-m", "runner.cli", *arguments], cwd=cwd, env=env, stderr=subprocess.DEVNULL
    )


def wait_for_step(run: Path, step: int, runner: subprocess.Popen[bytes]) -> None:
    while not (run / "metrics.jsonl").is_file() or max(steps(run), default=0) < step:
        assert runner.poll() is None, "the run ended before it was stopped"
        time.sleep(0.05)


@pytest.mark.cold
def test_ctrl_c_leaves_interrupted_and_no_process(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "stopped"
    runner = start(short("quickstart", tiny_model, "--set", "training.max_steps=500", "--name", "stopped"), tmp_path)
    wait_for_step(run, 2, runner)
    os.kill(runner.pid, signal.SIGINT)
    assert runner.wait(60) == 130
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    assert process.marked(Run(run).mark()) == []


def test_a_failure_names_its_cause_and_log(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    """A model whose weights are gone: exit code 1, the last lines, the log, state failed."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(b"\0" * 100)
    done = recipe(*short("quickstart", broken), code=1)
    assert "failed: quickstart: llamafactory ended with exit code" in done.stderr
    assert "log: " in done.stderr and "Traceback (most recent call last)" not in done.stderr.splitlines()[0]
    assert json.loads((tmp_path / "runs/quickstart/run.json").read_text())["state"] == "failed"


@pytest.mark.slow
def test_two_processes_on_a_cpu(
    recipe: Recipe, run_once: RunOnce, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun with gloo, from the environment variable; the global batch is the same, and so are the losses."""
    arguments = short("quickstart", tiny_model, "--set", LORA)
    one = run_once(*arguments)
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    two = Path(recipe(*arguments).stdout.splitlines()[-1])
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)  # seen bit-equal
    assert json.loads((two / "run.json").read_text())["topology"]["processes"] == 2
