"""Measures which lines all tests run together: in this process, in children, and inside the backends' environments.

Usage: python -m tests.covered [PYTEST ARGUMENT]…    (default: the unit tests and the real ones)

The environments are built a second time, under .covered/, and `coverage` is added to them: a user's stay as they are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from runner.machine.environments import NAMES, ON_DEMAND, ensure, environment
from runner.machine.pip_settings import uv_call

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / ".covered"
# Children run a copy of our packages (runner/files.code_directory), in a working directory of their own.
SETTINGS = """\
[run]
parallel = true
data_file = {own}/data
source_pkgs = recipes, adapters, eval, runner
concurrency = multiprocessing, thread
disable_warnings = no-data-collected, module-not-imported

[paths]
{paths}

[report]
fail_under = 90
exclude_also =
    if __name__ == .__main__.:
    if TYPE_CHECKING:
    raise AssertionError
"""
# On a disk that is full there is no room for what coverage writes either.
LEFT_OUT = ("--deselect", "tests/real/test_kills.py::test_a_disk_that_is_full_is_said_and_survived")
START = "import coverage; coverage.process_startup()\n"


def main(arguments: list[str]) -> int:
    os.environ["RECIPE_CACHE"] = str(OWN / "cache")
    OWN.mkdir(exist_ok=True)
    for file in OWN.glob("data*"):
        file.unlink()
    settings = OWN / "settings"
    packages = ("recipes", "adapters", "eval", "runner")
    paths = "\n".join(f"{name} =\n    {ROOT}/{name}\n    */{name}" for name in packages)
    settings.write_text(SETTINGS.format(own=OWN, paths=paths), encoding="utf-8")
    for name in (*NAMES, *ON_DEMAND):
        _add_coverage(ensure(environment(name, "cpu"), print))
    here = Path(sys.executable).parent.parent
    started = next((here / "lib").glob("python3*/site-packages")) / "covered.pth"
    started.write_text(START, encoding="utf-8")
    try:
        env = os.environ | {"COVERAGE_PROCESS_START": str(settings)}
        pytest = [sys.executable, "-m", "pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", *LEFT_OUT]
        wanted = [arguments] if arguments else [["-m", "not real and not browser"], ["-m", "real and not slow"]]
        codes = [subprocess.run([*pytest, *chosen], cwd=ROOT, env=env, check=False).returncode for chosen in wanted]
    finally:
        started.unlink()
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "combine", "--quiet", f"--rcfile={settings}"], cwd=ROOT, check=True)
    shown = subprocess.run([*coverage, "report", "--skip-covered", f"--rcfile={settings}"], cwd=ROOT, check=False)
    return max(*codes, shown.returncode)


def _add_coverage(python: Path) -> None:
    words = ["pip", "install", "--quiet", "--python", str(python), f"coverage=={version('coverage')}"]
    command, env = uv_call(words, os.environ)
    subprocess.run(command, check=True, env=env)
    (next((python.parent.parent / "lib").glob("python3*/site-packages")) / "covered.pth").write_text(START)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
