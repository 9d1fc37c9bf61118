"""One locked Python environment for each backend and each engine of evaluation, built by uv on first use.

The backends cannot live in one environment (they want different transformers), so each has a lock of its own. An
environment is complete or absent: its marker is written last, under a file lock, and two starts at once build it once.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters import BACKENDS, backend
from recipes import UserError, did_you_mean
from recipes.files import read_json, write_json
from runner.failure import Failure
from runner.files import cache_directory
from runner.machine import process

NAMES = (*BACKENDS, "eval")
EVAL_LOCKS = Path(__file__).parents[2] / "eval" / "locks"
VLLM = "eval-vllm"  # not in NAMES: built where `--engine vllm` asks for it
VLLM_LOCKS = {"cpu": EVAL_LOCKS / "requirements-vllm.lock", "cuda": EVAL_LOCKS / "requirements-vllm-cuda.lock"}
NEEDED_GB = 8  # an environment with the CUDA build of torch, before uv's cache shares files


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A locked environment. `no_deps` are requirements installed without their own."""

    name: str
    device: str
    lock: Path
    no_deps: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        digest = hashlib.sha256(self.lock.read_bytes() + repr(self.no_deps).encode()).hexdigest()[:12]
        version = f"py{sys.version_info.major}.{sys.version_info.minor}"
        return cache_directory() / "environments" / f"{self.name}-{self.device}-{version}-{digest}"

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def marker(self) -> Path:
        return self.directory / "complete.json"

    @property
    def ready(self) -> bool:
        return self.marker.is_file()


def environment(name: str, device: str) -> Environment:
    """The environment of a backend, of `eval` or of `eval-vllm`, on a device (cpu or cuda).

    Raises:
        UserError: no environment of that name.
    """
    if name == "eval":
        return Environment(name=name, device="any", lock=EVAL_LOCKS / "requirements.lock")
    if name == VLLM:
        return Environment(name=name, device=device, lock=VLLM_LOCKS[device])
    if name not in BACKENDS:
        known = (*NAMES, VLLM)
        raise UserError(f"{name!r} is no environment; allowed: {', '.join(known)}{did_you_mean(name, known)}")
    module = backend(name)
    same = module.LOCKS["cpu"] == module.LOCKS["cuda"] and module.NO_DEPS["cpu"] == module.NO_DEPS["cuda"]
    return Environment(
        name=name, device="any" if same else device, lock=module.LOCKS[device], no_deps=module.NO_DEPS[device]
    )


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
    if _is_held(lock):
        say(f"another process is building the {wanted.name} environment; waiting for it")
    with lock:
        if not wanted.ready:
            _build(wanted, say)
    return wanted.python


def _is_held(lock: object) -> bool:
    import filelock

    assert isinstance(lock, filelock.BaseFileLock)
    try:
        with lock.acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def _build(wanted: Environment, say: Callable[[str], None]) -> None:
    free = shutil.disk_usage(wanted.directory.parent).free / 1e9
    if free < NEEDED_GB:
        raise Failure(
            f"no room for the {wanted.name} environment: {free:.1f} GB free, {NEEDED_GB} needed in {cache_directory()}",
            cause="disk full; free some, or set RECIPE_CACHE to a directory with room",
        )
    say(f"building the {wanted.name} environment (once; a few GB to fetch) in {wanted.directory}")
    started = time.monotonic()
    shutil.rmtree(wanted.directory, ignore_errors=True)
    python = str(wanted.python)
    _uv(["venv", "--quiet", "--python", sys.executable, str(wanted.directory)], wanted)
    _uv(["pip", "install", "--python", python, "--requirements", str(wanted.lock), "--no-deps"], wanted)
    if wanted.no_deps:
        _uv(["pip", "install", "--python", python, "--no-deps", *wanted.no_deps], wanted)
    lock = [*wanted.lock.read_text(encoding="utf-8").splitlines(), *wanted.no_deps]
    write_json(wanted.marker, {"lock": lock, "python": sys.version})
    say(f"the {wanted.name} environment is ready ({time.monotonic() - started:.0f} s)")


def uv_command() -> str:
    """The uv that came with our own installation."""
    import uv

    return uv.find_uv_bin()


def _uv(arguments: list[str], wanted: Environment) -> None:
    log = wanted.directory.with_name(f"{wanted.directory.name}.log")
    with log.open("a", encoding="utf-8") as stream:
        # uv draws its progress on a terminal only; a log gets its plain lines.
        error = None if sys.stderr.isatty() else stream
        done = subprocess.run(
            [uv_command(), *arguments], stdout=stream, stderr=error, env=process.clean_environment(), check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise Failure(
            f"uv could not build the {wanted.name} environment (exit code {done.returncode})",
            cause="the package registry cannot be reached, or the disk is full; try `recipe doctor`",
            tail=tail,
            log=log,
        )


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
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{backend(name).DISTRIBUTION}=="))


def versions(wanted: Environment) -> dict[str, str]:
    """Distribution to version, as locked, of a built environment."""
    if not wanted.ready:
        return {}
    lines = [line.split(";")[0].strip() for line in read_json(wanted.marker)["lock"]]
    return dict(line.split("==", 1) for line in lines if "==" in line)
