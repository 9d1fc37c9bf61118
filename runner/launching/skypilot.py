"""SkyPilot: a managed job on a cloud, Kubernetes or machines of one's own, started again elsewhere when they are gone.

What its tasks hold: https://docs.skypilot.co/en/latest/reference/yaml-spec.html
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from recipes import UserError
from recipes.paths import local_files
from recipes.yaml_text import dump, parse
from runner.failure import Failure
from runner.files import ROOT, own_version
from runner.launching.contract import Job, Launched, Request, Say

FILE = "task.yaml"
RUNS = "/recipe-runs"  # where the storage is on each machine
SETUP = """\
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
uv tool install --quiet --force --python 3.11 {what}
"""
# The variables are SkyPilot's own: https://docs.skypilot.co/en/latest/running-jobs/environment-variables.html
RUN = """\
export PATH="$HOME/.local/bin:$PATH"
export NNODES="$SKYPILOT_NUM_NODES" NODE_RANK="$SKYPILOT_NODE_RANK" MASTER_PORT=29500
export MASTER_ADDR="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"
{variables}
# The first time this begins the run; on a machine that takes another's place it goes on.
{command}
"""

Values = dict[str, Any]  # of a task, as YAML has it


def job(request: Request) -> Job:
    if request.began:
        raise UserError(
            "--from: the other run is here, and not on SkyPilot's machines; set model.path, or model.adapter_path, to "
            "the directory of its weights, which goes along"
        )
    name = request.run.name
    task = _over(_task(request), request.launch.skypilot.task)
    secrets = [word for key, value in task.get("secrets", {}).items() if value is None for word in ("--secret", key)]
    file = str(request.directory / FILE)
    head = f"# {name}: made by `recipe launch`. sky jobs launch {shlex.quote(file)} submits it again.\n"
    command = ("sky", "jobs", "launch", "--yes", "--detach-run", *secrets, file)
    note = f"the run is in {request.launch.skypilot.storage}, not here: `sky jobs logs` follows it"
    text = "".join(_yaml(key, value) for key, value in task.items())
    return Job(files={FILE: head + text}, commands=(command,), notes=(note,))


def _task(request: Request) -> Values:
    asked, launch, name = request.launch.skypilot, request.launch, request.run.name
    recipe = f"~/recipe-launch/{name}.yaml"
    resources: Values = {
        "infra": asked.infra,
        "accelerators": f"{asked.accelerator}:{launch.gpus}" if launch.gpus else None,
        "image_id": asked.image,
        "use_spot": asked.spot or None,
    }
    mounts: Values = {recipe: str(request.recipe_file)}
    mounts |= {str(path): str(path) for path in local_files(request.loaded.resolved)}
    variables = [f"export {key}={shlex.quote(value)}" for key, value in request.variables().items()]
    task: Values = {"name": name, "num_nodes": request.machines.nodes}
    checkout = (ROOT / "pyproject.toml").is_file()
    if checkout and asked.setup is None:
        task["workdir"] = str(ROOT)
    task["resources"] = {key: value for key, value in resources.items() if value is not None}
    task["file_mounts"] = mounts
    if "://" in str(asked.storage):
        # The cached mode alone lets a file be added to, as metrics and logs are.
        mounts[RUNS] = {"source": asked.storage, "mode": "MOUNT_CACHED"}
    else:
        task["volumes"] = {RUNS: asked.storage}
    task["setup"] = asked.setup or SETUP.format(what="." if checkout else f"recipe-runner=={own_version()}")
    command = request.command(launch.command or "recipe", recipe, RUNS)
    task["run"] = RUN.format(variables="\n".join(variables), command=command)
    return task


def _yaml(key: str, value: Any) -> str:
    """A key of a task as YAML; shell text as a block, which can be read."""
    if isinstance(value, str) and "\n" in value:
        ends = value.endswith("\n")
        text = f"{key}: {'|' if ends else '|-'}\n{textwrap.indent(value, '  ')}" + ("" if ends else "\n")
        with suppress(UserError):  # of what YAML takes for no text
            if parse(text.encode(), FILE).value == {key: value}:
                return text
    return dump({key: value})


def _over(ours: Values, theirs: Mapping[str, Any]) -> Values:
    """Ours with theirs laid over: mappings are joined, all else is replaced."""
    joined = dict(ours)
    for key, value in theirs.items():
        both = isinstance(value, Mapping) and isinstance(joined.get(key), Mapping)
        joined[key] = _over(joined[key], value) if both else value
    return joined


def start(request: Request, job: Job, say: Say) -> str:
    ((_, *words),) = job.commands
    beside = Path(sys.executable).with_name("sky")
    sky = str(beside) if beside.is_file() else shutil.which("sky")
    if sky is None:
        raise UserError(
            "--on skypilot: there is no `sky` here; install it with the extra skypilot, or as a tool of its own"
        )
    said = []
    with subprocess.Popen([sky, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout
        for line in child.stdout:
            said.append(line)
            say(line.rstrip())
    if child.returncode:
        raise Failure(f"sky jobs launch ended with exit code {child.returncode}", cause="see what it says above")
    number = re.search(r"(?i)\bjob( submitted,)? ID:?\s*(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", "".join(said)))
    say("follow: sky jobs queue, sky jobs logs; end: sky jobs cancel")
    return number[2] if number else ""


def states(launched: Mapping[str, tuple[Path, Launched]], say: Say) -> Mapping[str, str]:
    """None: `sky jobs queue` asks a server, which may have to be started first."""
    return {}
