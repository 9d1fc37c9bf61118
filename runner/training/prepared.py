"""Prepared data, kept by content: the same rows, tokenizer and settings are not prepared a second time.

An entry is a copy of a run's data, named after a hash of all that it is made of: the recipe's sections, every byte of
the files that are read, the tokenizer's files, our code and the environment. What has no content here, a data set of a
hub or a store or a model's moving revision, is prepared each time. The oldest entries go where they take more than
RECIPE_DATA_CACHE_GB (10; 0 keeps none).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from recipes.paths import scheme
from recipes.typed import to_json
from runner.data.read import BadData, files_of
from runner.data.spec import PrepareSpec
from runner.files import cache_directory, code_directory
from runner.machine.hub import is_hub_id

LIMIT, LIMIT_GB = "RECIPE_DATA_CACHE_GB", 10.0
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
COMMIT = re.compile(r"[0-9a-f]{40}")
OWN = ("spec.json", "problems.json")  # of one run alone


def limit() -> float:
    """Bytes that all entries may take."""
    try:
        return float(os.environ.get(LIMIT, LIMIT_GB)) * 1e9
    except ValueError:
        return LIMIT_GB * 1e9


def key(spec: PrepareSpec, python: Path) -> str | None:
    """The name of what a preparation makes; None where not all that it reads has its content here."""
    if not limit() or python == Path(sys.executable):  # of our own environment nothing says what it holds
        return None
    told = {name: value for name, value in to_json(spec).items() if name != "directory"}
    digest = hashlib.sha256(json.dumps([told, code_directory().name, str(python)], sort_keys=True).encode())
    try:
        for file in _files(spec):
            with file.open("rb") as stream:
                digest.update(f"\0{file}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    except (OSError, BadData, _Elsewhere):  # the preparation says what is wrong with it
        return None
    return digest.hexdigest()[:32]


class _Elsewhere(Exception):
    """Something that is read is not here."""


def _files(spec: PrepareSpec) -> Iterator[Path]:
    model = spec.model
    yield from _of_model(model["path"], model["revision"])
    if model["tokenizer"]:
        yield from _of_model(model["tokenizer"], None)
    template = model["chat_template"]
    if template and Path(template).is_file():
        yield Path(template)
    for source in [*spec.data.train, *spec.data.validation.sources]:
        for path in source.paths:
            yield from _below(path)
        for chosen in files_of(source):
            for file in chosen.files if chosen else ():
                yield Path(str(file))
    for place in spec.scored.values():
        yield from _below(place)


def _of_model(name: str, revision: str | None) -> Iterator[Path]:
    if is_hub_id(name):
        if not COMMIT.fullmatch(revision or ""):
            raise _Elsewhere
        return
    yield from (file for file in _below(name) if file.suffix not in WEIGHTS)


def _below(name: str) -> Iterator[Path]:
    """A file, or all in a directory; of a pattern nothing, since its files are told by what reads it."""
    path = Path(name)
    if scheme(name) or (is_hub_id(name) and not path.exists()):
        raise _Elsewhere
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    elif path.is_file():
        yield path


def _place(name: str) -> Path:
    return cache_directory() / "data" / name


def take(name: str, directory: Path) -> bool:
    """Copy an entry into a run's data, its accounting last; False where there is none."""
    entry = _place(name)
    if not (entry / "accounting.json").is_file():
        return False
    os.utime(entry)
    directory.mkdir(parents=True, exist_ok=True)
    for part in sorted(entry.iterdir(), key=lambda part: part.name == "accounting.json"):
        if part.is_dir():
            shutil.copytree(part, directory / part.name, dirs_exist_ok=True)
        else:
            shutil.copyfile(part, directory / part.name)
    return True


def keep(name: str, directory: Path) -> None:
    """Keep a copy of a run's data, whole or not at all, and make room for it.

    Raises:
        OSError: it cannot be written.
    """
    entry = _place(name)
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=entry.parent, prefix="."))
    try:
        shutil.copytree(directory, temporary / "data", ignore=shutil.ignore_patterns(*OWN, "work"))
        if not entry.exists():  # else somebody was quicker
            (temporary / "data").rename(entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _make_room(entry)


def _make_room(newest: Path) -> None:
    entries = sorted(
        (e for e in newest.parent.iterdir() if not e.name.startswith(".")), key=lambda e: e.stat().st_mtime
    )
    sizes = {entry: sum(file.stat().st_size for file in entry.rglob("*") if file.is_file()) for entry in entries}
    room = limit()
    for entry in [newest, *(entry for entry in reversed(entries) if entry != newest)]:
        room -= sizes[entry]
        if room < 0:
            shutil.rmtree(entry, ignore_errors=True)
