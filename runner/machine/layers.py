"""Packages that a user puts over the lock of an environment, as named layers: each a file of `name==version` lines.

They lie by the environment whose lock they were resolved for: that of another version of ours has none, with which they
might not go together. An environment with layers is another directory than the one without.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recipes.files import write_text
from runner.files import cache_directory

# Their setup.py looks at the torch that they are compiled for: they are built in the environment, not apart from it.
BUILT_WITHIN = ("flash-attn", "causal-conv1d", "mamba-ssm")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: the package that was asked for, and `name==version` of all that came with it."""

    name: str
    requirements: tuple[str, ...]


def layers(environment: str) -> tuple[Layer, ...]:
    """The layers of an environment, by the name of its directory without any."""
    files = sorted(_directory(environment).glob("*.txt"))
    return tuple(Layer(name=file.stem, requirements=tuple(file.read_text("utf-8").splitlines())) for file in files)


def keep(environment: str, layer: Layer) -> None:
    write_text(_directory(environment) / f"{layer.name}.txt", "".join(f"{one}\n" for one in layer.requirements))


def drop(environment: str, name: str) -> None:
    (_directory(environment) / f"{name}.txt").unlink()


def build_options() -> list[str]:
    """How uv is to build what has no wheel."""
    return [option for name in BUILT_WITHIN for option in ("--no-build-isolation-package", name)]


def _directory(environment: str) -> Path:
    return cache_directory() / "layers" / environment
