"""Whether a recipe's text means a file here, or something on a hub."""

from __future__ import annotations

from pathlib import Path

DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")


def local_path(text: str, root: Path) -> Path | None:
    """`text` as a local path (relative to `root`), or None where it reads as a hub id."""
    path = Path(text).expanduser()
    resolved = path if path.is_absolute() else (root / path).resolve()
    looks_local = text.startswith(("/", "./", "../", "~")) or path.suffix in DATA_SUFFIXES or "\\" in text
    return resolved if looks_local or resolved.exists() else None
