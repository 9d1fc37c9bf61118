"""The house: imports go down only, packages stay small, files stay readable."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("recipes", "adapters", "eval", "runner")
# Each imports from those before it, and from itself.
LAYERS = (
    "recipes",
    "adapters",
    "eval",
    "runner.failure",
    "runner.files",
    "runner.data",
    "runner.machine",
    "runner.fit",
    "runner.imports",
    "runner.runs",
    "runner.scoring",
    "runner.training",
    "runner.sweeping",
    "runner.launching",
    "runner.verbs",
    "runner.cli",
)
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            own = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in SOURCES else node.module for name in own]
        else:
            continue
        yield from (name for name in names if name in SOURCES)


IMPORTS = {name: set(imported(path)) - {name} for name, path in SOURCES.items()}


def layer(module: str) -> int:
    return next((n for n, name in enumerate(LAYERS) if f"{module}.".startswith(f"{name}.")), len(LAYERS))


def test_imports_never_go_up_a_layer() -> None:
    upwards = [(a, b) for a, found in IMPORTS.items() for b in found if layer(b) > layer(a)]
    sideways = [(a, b) for a, found in IMPORTS.items() for b in found if {a[:4], b[:4]} == {"adap", "eval"}]
    assert not upwards and not sideways


def test_imports_have_no_cycle() -> None:
    left = {name: set(found) for name, found in IMPORTS.items()}
    while done := {name for name, found in left.items() if not found & left.keys()}:
        left = {name: found for name, found in left.items() if name not in done}
    assert not left


@pytest.mark.parametrize("package", ["runner", "eval"])
def test_a_package_has_at_most_14_entries(package: str) -> None:
    entries = [path.name for path in (ROOT / package).iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 14, entries


def test_no_file_has_more_than_300_lines() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in SOURCES.items()}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_what_is_thorough_runs_in_make_test_all() -> None:
    """A real test that reads the variable is run with it only where it has the mark."""
    real = {file: file.read_text(encoding="utf-8") for file in (ROOT / "tests" / "real").glob("test_*.py")}
    found = [file.name for file, text in real.items() if "RECIPE_THOROUGH" in text and "mark.thorough" not in text]
    assert not found


def test_what_is_passed_around_has_a_type() -> None:
    """At most five `dict[str, Any]` in a thousand lines: a dict whose keys are spelled twice is a typo in waiting."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.values())
    per_thousand = 1000 * len(re.findall(r"dict\[str, Any\]", text)) / len(text.splitlines())
    assert per_thousand <= 5, f"{per_thousand:.1f}"
