"""The images do what the README says, and little else; what they are made of is enough to install."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INSTALL = re.search(r"^To install:.*?\n\n", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
FILES = ["Dockerfile", "Dockerfile.cuda"]


def steps(file: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions: the word and what follows, lines joined."""
    text = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.mark.parametrize("file", FILES)
def test_what_an_image_runs_stands_in_the_readme(file: str) -> None:
    assert INSTALL
    said = re.findall(r"`([^`]+)`", INSTALL[0])
    assert file in said
    system, user, install = (text for word, text in steps(file) if word == "RUN")
    packages = re.fullmatch(r"apt-get update && apt-get install -y --no-install-recommends (.*) && rm -rf \S+", system)
    assert packages and packages[1] in said
    assert re.fullmatch(r"useradd --create-home --uid 1000 recipe && install -d -o recipe -g recipe [/\w. -]+", user)
    assert install in said


@pytest.mark.parametrize("file", FILES)
def test_an_image_is_small_has_no_root_and_keeps_its_cache_in_a_volume(file: str) -> None:
    instructions = steps(file)
    assert instructions[0] == ("FROM", "python:3.12-slim")
    places = {word: place for place, (word, _) in enumerate(instructions)}
    assert dict(instructions)["USER"] == "recipe" and places["USER"] < places["COPY"]
    assert dict(instructions)["VOLUME"] == "/home/recipe/.cache"  # Hugging Face's own, and the environments
    assert dict(instructions)["ENTRYPOINT"] == '["recipe"]'


def test_both_images_differ_only_in_what_a_gpu_needs() -> None:
    cpu, cuda = (set(steps(file)) for file in FILES)
    assert {word for word, _ in cpu ^ cuda} == {"RUN", "ENV"} and len(cpu - cuda) == 1 and len(cuda - cpu) == 2


def test_what_is_copied_into_an_image_is_what_a_wheel_is_built_of(tmp_path: Path) -> None:
    """A wheel built of just these files has every module; nothing that git ignores is among them."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert rules[0] == "*" and "**/__pycache__" in rules
    copied = [name for name in tracked if any(fnmatch.fnmatch(name, f"{one}*") for one in kept)]
    for name in copied:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(tmp_path / "out" / built.stdout.split()[-1])],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    packages = ("recipes/", "adapters/", "eval/", "runner/")
    assert all(name in listed for name in tracked if name.startswith(packages))
