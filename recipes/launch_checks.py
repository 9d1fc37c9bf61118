"""Where a recipe is launched: what the schema cannot say of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from recipes.errors import Problem, did_you_mean
from recipes.secret import is_secret
from recipes.yaml_text import Document, Values

# What the launch itself gives, with the field that says it.
SBATCH = {
    "nodes": "launch.nodes", "gpus": "launch.gpus", "gpus-per-node": "launch.gpus",
    "partition": "launch.slurm.partition", "account": "launch.slurm.account", "qos": "launch.slurm.qos",
    "constraint": "launch.slurm.constraint",
    "time": "launch.slurm.time", "cpus-per-task": "launch.slurm.cpus", "mem": "launch.slurm.memory",
    "job-name": "--name", "output": "", "error": "", "open-mode": "", "requeue": "", "no-requeue": "", "ntasks": "",
    "ntasks-per-node": "", "chdir": "", "array": "", "wrap": "", "parsable": "",
}  # fmt: skip
# The keys of a task that may be given: SkyPilot 0.14's, but those that the launch makes.
TASK = (
    "workdir", "event_callback", "resources", "file_mounts", "setup", "envs", "secrets", "managed_secrets", "inputs",
    "outputs", "config", "volumes", "volume_mounts", "api_server_access",
)  # fmt: skip
# Those of them that are laid over ours key by key, so that our mounts and resources stay.
JOINED = ("resources", "file_mounts", "envs", "secrets", "volumes")
SET = {"N_GPUS": "launch.gpus", "NNODES": "launch.nodes", "NODE_RANK": "launch.nodes"}


def launch_problems(value: Values, document: Document) -> Iterator[Problem]:
    """Each mistake of `launch`, of the place that it names and of those that it does not."""
    launch = value.get("launch", {})
    for name in launch.get("env", {}):
        if name in SET:
            yield document.problem(("launch", "env", name), f"is set by the launch, from {SET[name]}; take it out")
    shown, gpus = launch.get("env", {}).get("CUDA_VISIBLE_DEVICES"), launch.get("gpus", 1)
    if shown is not None and (named := len([word for word in shown.split(",") if word.strip()])) < gpus:
        text = f"names {named} of the {gpus} GPUs that launch.gpus asks for; take it out, or ask for as many"
        yield document.problem(("launch", "env", "CUDA_VISIBLE_DEVICES"), text)
    yield from _secrets(launch, ("launch",), document)
    if (command := launch.get("command")) and not _goes_on(command):
        text = "does not go on with `run RECIPE …`: it has an open quotation mark, a comment, or a backslash at its end"
        yield document.problem(("launch", "command"), text)
    for kind in ("sbatch", "srun"):
        for n, option in enumerate(launch.get("slurm", {}).get(kind, [])):
            name = option[2:].partition("=")[0]
            if name in SBATCH:
                by = f", from {SBATCH[name]}" if SBATCH[name] else ""
                yield document.problem(
                    ("launch", "slurm", kind, n), f"--{name} is given by the launch{by}; take it out"
                )
    yield from _of_ssh(launch, document)
    sky = launch.get("skypilot", {})
    if launch.get("on") == "skypilot":
        if not sky.get("storage"):
            text = "missing; a run must outlive its machine: give a bucket, such as s3://name, or a SkyPilot volume"
            yield document.problem(("launch", "skypilot", "storage"), text)
        elif "://" in sky["storage"] and (launch.get("nodes") or 1) > 1:
            text = (
                "several nodes see each other's files in a bucket too late; give a SkyPilot volume that all can write"
            )
            yield document.problem(("launch", "skypilot", "storage"), text)
        if launch.get("gpus", 1) and not sky.get("accelerator"):
            text = "missing; launch.gpus asks for GPUs: give their kind, such as H100, or set launch.gpus to 0"
            yield document.problem(("launch", "skypilot", "accelerator"), text)
    for key, of_task in sky.get("task", {}).items():
        if key not in TASK:
            text = f"not allowed; allowed, of a SkyPilot task: {', '.join(TASK)}{did_you_mean(key, TASK)}"
            yield document.problem(("launch", "skypilot", "task", key), text)
        elif key in JOINED and not isinstance(of_task, dict):
            text = f"must be a mapping, NAME: VALUE, which is laid over the launch's own {key}"
            yield document.problem(("launch", "skypilot", "task", key), text)


def _secrets(value: Any, place: tuple[str | int, ...], document: Document) -> Iterator[Problem]:
    """Texts that are secrets, by themselves or by their variable's name: scripts and the recipe's copy show them."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _secrets(one, (*place, key), document)
    variable = str(place[-1]) if place[-2:-1] and place[-2] in ("env", "envs", "secrets") else ""
    if isinstance(value, str) and is_secret(variable, value):
        text = "a secret must not stand in a recipe; set the variable where `recipe launch` is called"
        yield document.problem(place, text)


def _goes_on(command: str) -> bool:
    """Whether the words that a launch puts behind a text are words of its last command."""
    lexer = shlex.shlex(f"{command} run", posix=True, punctuation_chars=True)
    lexer.commenters, lexer.whitespace_split = "", True
    try:
        words = list(lexer)
    except ValueError:  # a quotation mark that no other follows
        return False
    return words[-1] == "run" and not any(word.startswith("#") for word in words)


def _simple(command: str) -> bool:
    """Whether a shell reads a text as one command, without `;`, `&&`, pipes and the like."""
    try:
        words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    except ValueError:  # a quotation mark that no other follows
        return False
    return "\n" not in command and not any(set(word) <= set("();<>|&") for word in words)


def _of_ssh(launch: Values, document: Document) -> Iterator[Problem]:
    if launch.get("on") != "ssh":
        return
    if not _simple(launch.get("command") or "recipe"):
        text = "not one simple command: the variables of a node reach its first command alone; put it into a script"
        yield document.problem(("launch", "command"), text)
    hosts, nodes = launch.get("ssh", {}).get("hosts", []), launch.get("nodes")
    if not hosts:
        text = "missing; ssh needs the hosts, the first of which is node 0: hosts: [node-a, node-b]"
        yield document.problem(("launch", "ssh", "hosts"), text)
    elif nodes is not None and nodes != len(hosts):
        text = f"{nodes}, but launch.ssh.hosts names {len(hosts)}; take it out, or name as many hosts"
        yield document.problem(("launch", "nodes"), text)
