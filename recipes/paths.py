"""Whether a recipe's text means a file here, or something on a hub."""

from __future__ import annotations

import re
from pathlib import Path

from recipes.errors import did_you_mean

TEMPLATES = Path(__file__).parent / "templates"
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


def template_names() -> list[str]:
    """The chat templates that come with the product, which a recipe gives by name."""
    return sorted(file.stem for file in TEMPLATES.glob("*.jinja"))


def template_file(text: str, root: Path) -> Path:
    """The file that `model.chat_template` means: one of ours by its name, or a path relative to `root`."""
    return TEMPLATES / f"{text}.jinja" if text in template_names() else (root / text).resolve()


def template_problem(text: str, root: Path) -> str:
    """Why `template_file` names no file, or an empty string."""
    if template_file(text, root).is_file():
        return ""
    names = template_names()
    known = f"the templates known by name are {', '.join(names)}{did_you_mean(text, names)}"
    return f"no such file: {root / text}; {known}"


def control_tokens(template: Path) -> set[str]:
    """The control tokens that one of our templates writes, which would be mere text without them in the vocabulary."""
    text = template.read_text(encoding="utf-8")
    found = set(re.findall(r"<[|｜]?[\w▁]+[|｜]?>", text.partition("{#- control tokens from here #}")[2]))
    return found - {"<think>"}  # mere text to many models that think


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
