"""Content hashes: a number is only as good as the identity of what was measured, and a path is no identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

WEIGHTS = ("*.safetensors", "*.bin")
# What changes the answers beside the weights: the architecture, the adapter's settings, the stop tokens, remote code.
SETTINGS = ("config.json", "adapter_config.json", "generation_config.json", "*.py")
NOT_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state")


def file_hash(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def text_hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def json_hash(value: Any) -> str:
    """The hash of a JSON value, whatever the order of its keys."""
    return text_hash(json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")))


def files_hash(paths: Iterable[Path]) -> str:
    """One hash over the names and contents of files; large ones are read in parallel."""
    ordered = sorted(paths, key=lambda path: path.name)
    with ThreadPoolExecutor(2) as pool:
        return json_hash([[p.name, h] for p, h in zip(ordered, pool.map(file_hash, ordered), strict=True)])


def weight_files(directory: Path) -> list[Path]:
    """The files that hold weights, without what a trainer leaves beside them."""
    found = {path for pattern in WEIGHTS for path in directory.glob(pattern)}
    return sorted(path for path in found if not path.name.startswith(NOT_WEIGHTS))


def model_hash(directory: Path, base: Path | None = None) -> str:
    """The identity of a model directory, or of an adapter on its base."""
    settings = {path for pattern in SETTINGS for path in directory.glob(pattern)}
    own = files_hash([*weight_files(directory), *settings])
    return json_hash([own, model_hash(base)]) if base else own


def data_hash(path: Path) -> str:
    """The hash of a data file, or of all JSON files of a directory."""
    if path.is_dir():
        return files_hash(p for pattern in ("*.jsonl", "*.json") for p in path.glob(pattern))
    return file_hash(path)
