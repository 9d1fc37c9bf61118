"""Whether a recipe's text means a file here, or something on a hub."""

from __future__ import annotations

from pathlib import Path

DATA_KINDS = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
READ = "json, jsonl, ndjson, csv, tsv (each also as .gz) or parquet"


def data_kind(path: Path) -> str | None:
    """How a data file is read, told from its name: json, csv, parquet, or None for what is not read."""
    name = Path(path.name.lower())
    kind = DATA_KINDS.get(Path(name.stem).suffix if name.suffix == ".gz" else name.suffix)
    return None if kind == "parquet" and name.suffix == ".gz" else kind


def lookup_problem(text: str, root: Path) -> str:
    """Why the system cannot look up `text` as a path at all, or an empty string; that nothing is there is no reason."""
    try:
        (root / Path(text).expanduser()).stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except RuntimeError as error:  # ~nosuchuser
        return f"{text[:80]!r} is no path: {error}"
    except OSError as error:
        return f"{text[:80]!r} is no path: {error.strerror}"
    return ""


def local_path(text: str, root: Path) -> Path | None:
    """`text` as a local path (relative to `root`), or None where it reads as a hub id."""
    path = Path(text).expanduser()
    resolved = path if path.is_absolute() else (root / path).resolve()
    looks_local = text.startswith(("/", "./", "../", "~")) or data_kind(path) is not None or "\\" in text
    return resolved if looks_local or resolved.exists() else None
