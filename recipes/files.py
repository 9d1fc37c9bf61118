"""Files that are whole or not there: what every package reads and writes its JSON with."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old text or the new one, and a failed write leaves no temporary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        # Not mkstemp, whose files have mode 0600 whatever the umask says.
        # A lone surrogate, which a model may well produce in bytes, must not cost the whole file.
        with temporary.open("x", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_temporaries(directory: Path) -> None:
    """Remove what kills left of files that were being written; nobody else may be writing there."""
    for path in directory.rglob(".*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """One JSON value, indented.

    Raises:
        ValueError: it holds NaN or an infinity, which are no JSON.
    """
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, or is not JSON that can.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
