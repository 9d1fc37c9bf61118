"""One locked Python environment for each backend and each engine of evaluation, built by uv on first use.

The backends cannot live in one environment (they want different transformers), so each has a lock of its own. An
environment is complete or absent: its marker is written last, under a file lock, and two starts at once build it once.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from adapters import BACKENDS, backend
from recipes import UserError, did_you_mean
from recipes.typed import read_typed, write_typed
from runner.failure import Failure
from runner.files import NewLines, cache_directory
from runner.machine import process
from runner.machine.diagnose import installer_cause
from runner.machine.layers import Layer, build_options, layers

NAMES = (*BACKENDS, "eval")
EVAL_LOCKS = Path(__file__).parents[2] / "eval" / "locks"
VLLM, LM, LM_VLLM, EXPORT = "eval-vllm", "eval-lm", "eval-lm-vllm", "export"
# Beside the backends', by device; "any" where one lock serves both. All but `eval` are built when first asked for.
LOCKS = {
    "eval": {"any": "requirements.lock"},
    VLLM: {"cpu": "requirements-vllm.lock", "cuda": "requirements-vllm-cuda.lock"},
    LM: {"any": "requirements-lm.lock"},
    LM_VLLM: {"cpu": "requirements-lm-vllm.lock", "cuda": "requirements-lm-vllm-cuda.lock"},
    EXPORT: {"any": "requirements-export.lock"},
}
ON_DEMAND = (VLLM, LM, LM_VLLM, EXPORT)  # not in NAMES
NEEDED_GB = 8  # an environment with the CUDA build of torch, before uv's cache shares files
TELL_S = 20.0  # between two lines about a build that goes on


@dataclass(frozen=True, kw_only=True)
class Complete:
    """The content of the marker: what was installed, and by which Python."""

    lock: tuple[str, ...]
    python: str


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A locked environment. `no_deps` are requirements installed without their own; `layers` lie over the lock."""

    name: str
    device: str
    lock: Path
    no_deps: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()

    @property
    def directory(self) -> Path:
        return cache_directory() / "environments" / self._named(repr(self.layers).encode() if self.layers else b"")

    @property
    def base(self) -> str:
        """The name of the directory without layers, by which they are kept."""
        return self._named(b"")

    def _named(self, more: bytes) -> str:
        digest = hashlib.sha256(self.lock.read_bytes() + repr(self.no_deps).encode() + more).hexdigest()[:12]
        version = f"py{sys.version_info.major}.{sys.version_info.minor}"
        return f"{self.name}-{self.device}-{version}-{digest}"

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def marker(self) -> Path:
        return self.directory / "complete.json"

    @property
    def ready(self) -> bool:
        return self.marker.is_file()

    @property
    def requirements(self) -> tuple[str, ...]:
        """`name==version`, with a marker after a semicolon where it is not for every platform."""
        over = (requirement for layer in self.layers for requirement in layer.requirements)
        return (*self.lock.read_text(encoding="utf-8").splitlines(), *self.no_deps, *over)


def environment(name: str, device: str) -> Environment:
    """The environment of a backend, or one of evaluation or quantization, on a device (cpu or cuda), with its layers.

    Raises:
        UserError: no environment of that name.
    """
    locked = _locked(name, device)
    return replace(locked, layers=layers(locked.base))


def _locked(name: str, device: str) -> Environment:
    if name in LOCKS:
        where = "any" if "any" in LOCKS[name] else device
        return Environment(name=name, device=where, lock=EVAL_LOCKS / LOCKS[name][where])
    if name not in BACKENDS:
        known = (*NAMES, *ON_DEMAND)
        raise UserError(f"unknown environment {name!r}; choose from {', '.join(known)}{did_you_mean(name, known)}")
    module = backend(name)
    same = module.LOCKS["cpu"] == module.LOCKS["cuda"] and module.NO_DEPS["cpu"] == module.NO_DEPS["cuda"]
    return Environment(
        name=name, device="any" if same else device, lock=module.LOCKS[device], no_deps=module.NO_DEPS[device]
    )


def every_environment() -> list[Environment]:
    """All that any device of this machine could want."""
    names = [(name, device) for name in (*NAMES, *ON_DEMAND) for device in ("cpu", "cuda")]
    found = [make(*one) for one in names for make in (_locked, environment)]
    return list({wanted.directory: wanted for wanted in found}.values())


def ensure(wanted: Environment, say: Callable[[str], None]) -> Path:
    """The environment's interpreter, after building it where it is not there yet.

    Raises:
        Failure: uv could not build it, or there is no room.
    """
    if wanted.ready:
        return wanted.python
    import filelock

    wanted.directory.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{wanted.directory}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"another process is building the {wanted.name} environment; waiting for it")
        lock.acquire()
    try:
        if not wanted.ready:
            with process.signals_raise():
                _build(wanted, say)
    finally:
        lock.release()
    return wanted.python


def _build(wanted: Environment, say: Callable[[str], None]) -> None:
    free = shutil.disk_usage(wanted.directory.parent).free / 1e9
    if free < NEEDED_GB:
        raise Failure(
            f"no room for the {wanted.name} environment: {free:.1f} GB free, {NEEDED_GB} needed in {cache_directory()}",
            cause="disk full; free some, or set RECIPE_CACHE to a directory with room",
        )
    say(f"building the {wanted.name} environment (once; a few GB to fetch) in {wanted.directory}")
    started = time.monotonic()
    shutil.rmtree(wanted.directory, ignore_errors=True)  # what a killed build left
    python = str(wanted.python)
    try:
        _uv(["venv", "--quiet", "--python", sys.executable, str(wanted.directory)], wanted, say)
        _uv(["pip", "install", "--python", python, "--requirements", str(wanted.lock), "--no-deps"], wanted, say)
        if wanted.no_deps:
            _uv(["pip", "install", "--python", python, "--no-deps", *wanted.no_deps], wanted, say)
        for layer in wanted.layers:
            options = ["--no-deps", *build_options(), *layer.requirements]
            _uv(["pip", "install", "--python", python, *options], wanted, say)
        write_typed(wanted.marker, Complete(lock=wanted.requirements, python=sys.version))
    except BaseException:
        shutil.rmtree(wanted.directory, ignore_errors=True)
        raise
    say(f"the {wanted.name} environment is ready ({time.monotonic() - started:.0f} s)")


def _uv(arguments: list[str], wanted: Environment, say: Callable[[str], None]) -> None:
    log = wanted.directory.with_name(f"{wanted.directory.name}.log")
    code = run_uv(arguments, log, mark=str(wanted.directory), say=say)
    if code:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise Failure(
            f"uv could not build the {wanted.name} environment (exit code {code})",
            cause=installer_cause("\n".join(text.splitlines()[-60:])),
            tail="\n".join(text.splitlines()[-15:]),
            log=log,
        )


def run_uv(arguments: list[str], log: Path, *, mark: str, say: Callable[[str], None]) -> int:
    """Run uv with what pip is configured with; its output goes to `log`, and now and then a line to the user."""
    from runner.machine.pip_settings import uv_call  # what only a build needs

    command, env = uv_call(arguments, process.clean_environment())
    new, told = NewLines(log, log.stat().st_size if log.is_file() else 0), time.monotonic()

    def poll() -> None:
        nonlocal told
        lines = [line for line in new() if line.strip()]
        if lines and time.monotonic() - told > TELL_S:
            told = time.monotonic()
            say(f"  {lines[-1].strip()}")

    return process.run(command, cwd=log.parent, env=env, log=log, mark=mark, poll=poll, wrap=False)


def current_python(name: str) -> Path:
    """This interpreter, for `--env current`.

    Raises:
        UserError: it lacks the backend, or has another version than the one that is supported.
    """
    from importlib import metadata  # an eighth of what `recipe plan` costs

    wanted = _pinned(name)
    try:
        found = metadata.version(backend(name).DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise UserError(f"--env current: {sys.executable} has no {name}; install {name}=={wanted}") from None
    if found != wanted:
        raise UserError(f"--env current: {sys.executable} has {name} {found}; supported: {wanted}")
    return Path(sys.executable)


def _pinned(name: str) -> str:
    lines = environment(name, "cpu").lock.read_text(encoding="utf-8").splitlines()
    distribution = backend(name).DISTRIBUTION
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{distribution}=="))


def versions_of(python: Path, wanted: Environment) -> dict[str, str]:
    """Distribution to version of what trains: a built environment, or with `--env current` this one."""
    if python == wanted.python:
        return versions(wanted)
    from importlib import metadata

    found = list(metadata.distributions())[::-1]  # of two of one name, the first is imported
    return {re.sub(r"[-_.]+", "-", one.name).lower(): one.version for one in found}


def versions(wanted: Environment) -> dict[str, str]:
    """Distribution to version, as locked, of a built environment."""
    if not wanted.ready:
        return {}
    lines = [line.split(";")[0].strip() for line in read_typed(Complete, wanted.marker).lock]
    return dict(line.split("==", 1) for line in lines if "==" in line)
