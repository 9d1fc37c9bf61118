"""Where a model's config.json is, without a network: its directory, the Hugging Face cache, or a table of families."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recipes import UserError
from recipes.model_files import ADAPTER
from runner.fit.shapes import Shape, Value, shape
from runner.machine.bundled import located
from runner.machine.hub import is_hub_id

# Configurations by the models that have them, with the parameters that their pages on the Hub say.
TABLE = Path(__file__).with_name("families.json")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A model's shape and where it was read."""

    shape: Shape
    place: str


@cache
def families() -> Mapping[str, Mapping[str, Value]]:
    """The table's configurations by model."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return {name: row["config"] for row in rows for name in row["names"]}


def find(path: str, revision: str | None = None) -> Found | str:
    """The shape of a recipe's `model.path`, or one line that says why there is none.

    Raises:
        UserError: a config.json that is none.
    """
    directory = Path(located(path)) if not is_hub_id(path) else _cached(path, revision)
    if directory and (directory / "config.json").is_file():
        file = directory / "config.json"
        return Found(shape=shape(_read(file), str(file)), place=str(file))
    known = {name.lower(): config for name, config in families().items()}
    if path.lower() in known:
        return Found(shape=shape(known[path.lower()], path), place="the table of known models")
    if not is_hub_id(path):
        what = "a PEFT adapter" if directory and (directory / ADAPTER).is_file() else "no config.json"
        return f"no estimate: {path} holds {what}"
    return (
        f"no estimate: {path} is neither in the Hugging Face cache nor in the table of known models; "
        f"`hf download {path} config.json` fetches what is needed"
    )


def _read(file: Path) -> Mapping[str, Value]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{file}: holds no JSON object")
    return value


def _cached(path: str, revision: str | None) -> Path | None:
    """The newest snapshot of a model in the cache that huggingface_hub would use, where there is one."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    model = hub / f"models--{path.replace('/', '--')}"
    ref = model / "refs" / (revision or "main")
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    return model / "snapshots" / commit if commit else None
