"""Where the tool keeps things, and how it writes them: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("recipes", "adapters", "eval", "runner")
ROOT = Path(__file__).resolve().parent.parent


def own_version() -> str:
    """This tool's; of a checkout that is not installed, a word for it."""
    from importlib import metadata  # an eighth of what `recipe plan` costs

    try:
        return metadata.version("recipe-runner")
    except metadata.PackageNotFoundError:
        return "unreleased"


def cache_directory() -> Path:
    """`$RECIPE_CACHE`, else `recipe-runner` under the user's cache directory."""
    own = os.environ.get("RECIPE_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "recipe-runner"


def check_output(target: Path) -> None:
    """Refuse a directory that is to be made and cannot be, before work is put into what goes there.

    Raises:
        UserError: it is there already, or nothing can be written beside it.
    """
    from recipes.errors import UserError  # this module is read without any package too

    if target.exists():
        raise UserError(f"{target} is there already; give another --output, or remove it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=target.parent).cleanup()
    except OSError as error:
        raise UserError(f"--output {target}: {error.strerror}") from None


class NewLines:
    """The whole lines that a growing file has got since the last call; none where it is not there yet."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path, self.offset = path, offset

    def __call__(self) -> list[str]:
        if not self.path.is_file():
            return []
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.decode("utf-8", "replace").splitlines()


def safetensors_header(file: Path) -> dict[str, Any] | None:
    """Tensor name to dtype, shape and data_offsets; None where the file is shorter than its header says."""
    with file.open("rb") as stream:
        head = stream.read(8)
        if len(head) < 8:
            return None
        length = struct.unpack("<Q", head)[0]
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
        except ValueError:
            return None
    header.pop("__metadata__", None)
    ends = [entry["data_offsets"][1] for entry in header.values()]
    return header if ends and file.stat().st_size == 8 + length + max(ends) else None


@cache
def code_directory() -> Path:
    """A copy of our own packages, keyed by content, for children's PYTHONPATH.

    So a child never sees the tool's own site-packages, and a run that takes days does not notice an edit or an upgrade.
    """
    files = sorted(f for package in PACKAGES for f in (ROOT / package).rglob("*") if _is_code(f))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    target = cache_directory() / "code" / digest.hexdigest()[:16]
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent))
        for file in files:
            copy = temporary / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        try:
            temporary.chmod(0o755)
            temporary.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(temporary)
    return target


def _is_code(file: Path) -> bool:
    kinds = (".py", ".json", ".txt", ".lock", ".jinja", ".toml", ".yaml")
    return file.is_file() and (file.suffix in kinds or file.name == "METADATA")
