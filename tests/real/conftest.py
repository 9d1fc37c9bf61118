"""Fixtures of the real runs: the locked environments, the bundled model, and a tiny one for speed."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters import backend
from adapters.contract import Paths, PreparedData, Topology
from recipes import load
from recipes.files import write_text
from runner.files import code_directory
from runner.machine import bundled, environments, process
from runner.machine.environments import environment
from runner.machine.process import clean_environment
from runner.runs import rundir
from runner.training.prepare import prepare

Recipe = Callable[..., "subprocess.CompletedProcess[str]"]
RunOnce = Callable[..., Path]
Prepared = Callable[..., tuple[Path, str]]

# The second backend of a test whose mechanics the first one holds: in `make test-all`.
LLAMAFACTORY_AND_SLOW_VERL = ["llamafactory", pytest.param("verl", marks=pytest.mark.slow)]

TINY = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
source, target = sys.argv[1:]
config = AutoConfig.from_pretrained(source)
config.num_hidden_layers, config.hidden_size, config.intermediate_size = 2, 128, 192
config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 32
if getattr(config, "layer_types", None):
    config.layer_types = config.layer_types[:2]
torch.manual_seed(1)
AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(target)
AutoTokenizer.from_pretrained(source).save_pretrained(target)
"""

TINY_QWEN3 = """
import sys, torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
source, target = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(source)
torch.manual_seed(1)
Qwen3ForCausalLM(Qwen3Config(
    vocab_size=len(tokenizer), hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=32, max_position_embeddings=2048, tie_word_embeddings=True, layer_types=None,
    eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=tokenizer.pad_token_id,
)).save_pretrained(target)
tokenizer.save_pretrained(target)
"""


LONGEST = [
    "test_verl_grpo",
    "test_quickstart",
    "test_checkpoint_scores",
    "test_verl_backend",
    "test_kills",
    "test_llamafactory_backend",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left alone with one at the end."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session", autouse=True)
def environment_of_all() -> None:
    """A user may have no compiler; data are prepared anew, but where a test says otherwise; a core for each test."""
    os.environ.update(CC="/nonexistent", CXX="/nonexistent", RECIPE_DATA_CACHE_GB="0", OMP_NUM_THREADS="1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB: enough for the bundled model


@pytest.fixture(autouse=True)
def cold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test so marked starts processes as a user does."""
    if request.node.get_closest_marker("cold"):
        monkeypatch.delenv(process.WRAP, raising=False)


def _ensure(name: str) -> Path:
    return environments.ensure(environment(name, "cpu"), lambda text: print(text, file=sys.stderr))


@pytest.fixture(scope="session")
def llamafactory_python() -> Path:
    return _ensure("llamafactory")


@pytest.fixture(scope="session")
def verl_python() -> Path:
    return _ensure("verl")


@pytest.fixture(scope="session")
def eval_python() -> Path:
    return _ensure("eval")


@pytest.fixture(scope="session")
def lm_python() -> Path:
    return _ensure("eval-lm")


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    return _ensure("eval-vllm")


@pytest.fixture(scope="session")
def bundled_model(llamafactory_python: Path) -> Path:
    return bundled.ensure(llamafactory_python, print)


def inside(python: Path, code: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a script in an environment, with our packages on its path; returns its stdout."""
    env = clean_environment({"PYTHONPATH": str(code_directory()), **(env or {})})
    done = subprocess.run(
        [*process.wrapped(), str(python), "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=env,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def tiny_model(llamafactory_python: Path, bundled_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers with the bundled model's tokenizer."""
    target = tmp_path_factory.mktemp("models") / "tiny"
    inside(llamafactory_python, TINY, str(bundled_model), str(target), cwd=target.parent)
    return target


@pytest.fixture(scope="session")
def tiny_qwen3(verl_python: Path, bundled_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of two layers with the bundled model's tokenizer."""
    target = tmp_path_factory.mktemp("models") / "qwen3"
    inside(verl_python, TINY_QWEN3, str(bundled_model), str(target), cwd=target.parent)
    return target


@pytest.fixture(scope="session")
def hub_cache(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache of the hub with acme/tiny in it, and where its files are: warm interpreters know the one cache."""
    hub = tmp_path_factory.mktemp("hub")
    cache = hub / "models--acme--tiny"
    commits = {"v1": "1" * 40, "main": "2" * 40}
    for name, commit in commits.items():
        write_text(cache / "refs" / name, commit)
        (cache / "snapshots" / commit).mkdir(parents=True)
    return hub, shutil.copytree(tiny_model, cache / "snapshots" / commits["v1"], dirs_exist_ok=True)


@pytest.fixture
def on_the_hub(hub_cache: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """acme/tiny as if it had been downloaded: the tiny model at revision v1; the newest has no files at all."""
    hub, found = hub_cache
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return found


def calls_in(directory: Path) -> Recipe:
    """The command line in a directory, as a user calls it."""

    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "runner.cli", *arguments],
            capture_output=True, text=True, cwd=directory, check=False,
            env=clean_environment({"PYTHONPATH": str(Path(__file__).parents[2])}),
        )  # fmt: skip
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """The command line in a directory of the test's own."""
    return calls_in(tmp_path)


@pytest.fixture
def prepared(tmp_path: Path, llamafactory_python: Path) -> Prepared:
    """Prepare the data of a recipe, as `recipe run` does before it trains; returns the run and what was said."""
    number = itertools.count()

    def call(recipe: str, *overrides: str) -> tuple[Path, str]:
        loaded = load(str(tmp_path / recipe), overrides)
        run = rundir.create(loaded, tmp_path / "runs", f"prepared-{next(number)}")
        said: list[str] = []
        prepare(run, loaded.recipe, llamafactory_python, str(loaded.recipe.model.path), said.append)
        return run.path, "\n".join(said)

    return call


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> RunOnce:
    """Run a recipe once for all tests of a module that give the same arguments; returns the run's directory."""
    call = calls_in(tmp_path_factory.mktemp("once"))
    return functools.cache(lambda *arguments: Path(call(*arguments).stdout.splitlines()[-1]))


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in metrics(run) if "loss" in line]


def steps(run: Path) -> list[int]:
    return [line["step"] for line in metrics(run) if "loss" in line]


def write_plans(
    named: Mapping[str, Sequence[str]], topologies: Sequence[Topology], python: Path, model: Path, directory: Path
) -> dict[str, float]:
    """Write the files of verl's plan of each recipe (a name and overrides) on each of these machines.

    Returns the learning rates by the directory's name, of those that verl does not refuse there.
    """
    written: dict[str, float] = {}
    module = backend("verl")
    for (name, (base, *overrides)), topology in itertools.product(named.items(), topologies):
        loaded = load(base, ["backend=verl", *overrides])
        if module.problems(loaded, topology):
            continue
        run = directory / f"{name}-{topology.device}"
        paths = Paths(run=run, python=python, model=str(model))
        for file, text in module.plan(loaded.recipe, topology, PreparedData(train_rows=99), paths).files.items():
            write_text(run / file, text)
        written[run.name] = loaded.recipe.training.learning_rate
    return written
