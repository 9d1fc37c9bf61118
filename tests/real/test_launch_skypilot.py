"""SkyPilot's own parser takes every task that `recipe launch --on skypilot` writes; in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import LoadedRecipe, UserError, load, trainings
from recipes.launch_checks import TASK
from recipes.made import made
from recipes.methods import METHODS
from recipes.yaml_text import dump
from runner.launching import launch
from runner.machine.pip_settings import uv_call
from runner.machine.process import clean_environment
from runner.training.copying import copy_recipe

pytestmark = [pytest.mark.real, pytest.mark.slow]

SETUP = 'echo "it\'s here"\n\n  pip list'
ROOT = Path(__file__).parents[2]
# Reads each task as `sky jobs launch` does, and tells what it has understood.
READ = """
import json, sys
import sky
from sky.client.cli import command
from sky.utils import schemas
told = {"keys": sorted(schemas.get_task_schema()["properties"])}
words, *files = sys.argv[1:]
told["command"] = command.jobs_launch.make_context("launch", json.loads(words)).params
for file in files:
    task = sky.Task.from_yaml(file)
    (resources,) = task.resources
    told[task.name] = {
        "nodes": task.num_nodes, "accelerators": resources.accelerators, "spot": resources.use_spot,
        "image": resources.image_id, "infra": resources.infra.to_str() if resources.infra else None,
        "disk": resources.disk_size, "files": task.file_mounts, "run": task.run, "setup": task.setup,
        "storage": {path: [one.source, one.mode.value] for path, one in task.storage_mounts.items()},
        "volumes": task.volumes, "secrets": sorted(task.secrets), "workdir": task.workdir,
    }
print(json.dumps(told, default=str))
"""


@pytest.fixture(scope="module")
def sky() -> Path:
    """The interpreter of an environment with the extra `skypilot`."""
    directory = ROOT / ".venv-skypilot"
    python = directory / "bin/python"
    env = clean_environment()
    for words in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(directory)],
        ["pip", "install", "--quiet", "--python", str(python), "--editable", f"{ROOT}[skypilot]"],
    ):
        command, variables = uv_call(words, env)
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return python


def written(loaded: LoadedRecipe, runs: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """The task's file, and the words after `sky jobs launch`."""
    request = launch.request(loaded, runs / name)
    request.directory.mkdir(parents=True)
    copy_recipe(loaded, request.recipe_file)
    job = launch.job(request)
    ((name, text),) = job.files.items()
    (request.directory / name).write_text(text)
    return request.directory / name, job.commands[0][3:]


def test_skypilots_parser_takes_the_task_of_every_recipe(sky: Path, tmp_path: Path) -> None:
    common = ["launch.on=skypilot", "launch.gpus=8", "launch.skypilot.accelerator=H100"]
    bucket, volume = ["launch.skypilot.storage=s3://my-runs"], ["launch.skypilot.storage=vol", "launch.nodes=2"]
    files, left = {}, []
    for name in [*trainings(), *made()]:
        own = name.replace(":", "-")  # a stage's
        batch = [] if METHODS[load(name).recipe.method].rewards else ["training.global_batch_size=64"]
        try:
            loaded = load(name, [*common, *bucket, *batch, "training.micro_batch_size=1"])
            files[own], _ = written(loaded, tmp_path, own)
        except UserError as error:
            left.append(f"{name}: {error}")
    assert len(left) < len(files) / 10, left
    more = [
        *volume, "launch.skypilot.infra=kubernetes", "launch.skypilot.image=docker:nvcr.io/nvidia/pytorch:25.01-py3",
        "launch.skypilot.spot=true", f"launch.skypilot.setup={dump(SETUP, flow=True)}",
        "launch.skypilot.task={resources: {disk_size: 512}, workdir: null, "
        "secrets: {HF_TOKEN: x, WANDB_API_KEY: null}}",
        "training.global_batch_size=64",
    ]  # fmt: skip
    files["all"], words = written(load("quickstart", [*common, *more]), tmp_path, "all")
    env = clean_environment({"HOME": str(tmp_path), "WANDB_API_KEY": "here"})
    done = subprocess.run(
        [str(sky), "-c", READ, json.dumps(words), *map(str, files.values())],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    ours = {"name", "num_nodes", "run", "service", "pool", "file_mounts_mapping", "_metadata"}  # or for servers
    assert sorted(TASK) == sorted(set(told.pop("keys")) - ours)
    called = told.pop("command")
    assert (called["yes"], called["detach_run"], called["entrypoint"]) == (True, True, [str(files["all"])])
    assert called["secret"] == [["WANDB_API_KEY", "here"]]
    assert told.keys() == files.keys()
    one, every = told["quickstart"], told["all"]
    assert one["accelerators"] == {"H100": 8} and (one["nodes"], one["spot"]) == (1, False)
    assert one["storage"] == {"/recipe-runs": ["s3://my-runs", "MOUNT_CACHED"]} and one["workdir"] == str(ROOT)
    assert {Path(path).name for path in one["files"]} == {"quickstart.yaml", "finance_qa.jsonl"}
    assert "recipe run ~/recipe-launch/quickstart.yaml --runs-dir /recipe-runs" in one["run"]
    assert (every["nodes"], every["spot"], every["disk"]) == (2, True, 512)
    assert every["infra"] == "kubernetes" and "nvcr.io/nvidia/pytorch:25.01-py3" in str(every["image"])
    assert (
        every["volumes"] == {"/recipe-runs": "vol"}
        and every["secrets"] == ["HF_TOKEN"]  # the other comes by --secret
        and not every["storage"]
    )
    assert every["setup"] == SETUP
