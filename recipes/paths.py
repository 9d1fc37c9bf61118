"""Whether a recipe's text means a file here, something on a hub, or a file of a remote store."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from recipes.errors import did_you_mean
from recipes.yaml_text import dotted

TEMPLATES = Path(__file__).parent / "templates"
DATA_KINDS = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
TEXT_KINDS = ("json", "csv", "text")  # these may be packed, and have an encoding
PACKED = (".gz", ".zst")
READ = "json, jsonl, ndjson, csv, tsv, txt (each also as .gz or .zst), parquet, arrow or feather"
REMOTE = ("hf", "s3", "gs")
HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?", re.ASCII)


def data_kind(path: PurePath) -> str | None:
    """How a data file is read, told from its name: json, csv, text, parquet, arrow, or None for what is not read."""
    name = unpacked_name(path.name)
    kind = DATA_KINDS.get(name.suffix)
    return kind if kind in TEXT_KINDS or name.name == path.name.lower() else None


def unpacked_name(name: str) -> PurePath:
    """The name in small letters, without the suffix of what it is packed by: `Train.CSV.gz` is train.csv."""
    path = PurePath(name.lower())
    return path.with_suffix("") if path.suffix in PACKED else path


def scheme(text: str) -> str | None:
    """`s3` of s3://bucket/rows.jsonl, None of a path or of a hub's id."""
    found = re.match(r"([a-z][a-z0-9+.-]+)://", text, re.IGNORECASE)
    return found[1].lower() if found else None


def hub_name(text: str) -> tuple[str, str | None] | None:
    """Name and revision of hf://datasets/NAME[@REVISION], a whole data set; None of one of its files or folders."""
    found = re.fullmatch(r"hf://datasets/((?:[^/@]+/)?[^/@]+)(?:@([^/]+))?/?", text)
    return None if not found or is_pattern(text) or data_kind(PurePath(found[1])) else (found[1], found[2])


def is_pattern(path: PurePath | str) -> bool:
    """Whether it stands for the files whose names are like it, such as `data/*.jsonl`."""
    return glob.has_magic(str(path)) and not os.path.lexists(path)


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
    except (RuntimeError, ValueError) as error:  # ~nosuchuser, a NUL
        return f"{text[:80]!r} is no path: {error}"
    except OSError as error:
        return f"{text[:80]!r} is no path: {error.strerror}"
    return ""


def unset_variable(text: str) -> str:
    """A hint where a path that leads nowhere holds a variable, which only a shell puts in; else an empty string."""
    found = re.search(r"\$\{?\w+", text)
    return "; variables are not put in: give the path with --set, where your shell does it" if found else ""


def listed(path: str | Sequence[str]) -> list[str]:
    """The paths of a source: it has one, or a list of them."""
    return [path] if isinstance(path, str) else list(path)


def local_path(text: str, root: Path) -> Path | None:
    """`text` as a local path (relative to `root`), or None where it reads as a hub id, or names a remote store."""
    if scheme(text):
        return None
    path = Path(text).expanduser()
    resolved = path if path.is_absolute() else (root / path).resolve()
    looks_local = text.startswith(("/", "./", "../", "~")) or data_kind(path) is not None or "\\" in text
    return resolved if looks_local or glob.has_magic(text) or resolved.exists() else None


# Fields that are paths, with what stands before and after the path in their text.
PATHS: tuple[tuple[str, str, str], ...] = (
    (
        r"model\.(path|adapter_path|tokenizer|chat_template)|data\.(train|validation\.sources)\[\]\.path(\[\])?|eval\.data\.[^.]*",
        "",
        "",
    ),
    (r"eval\.scorer", r"[a-z]*:", ""),
    (r"(grpo\.rewards|eval\.measures)\[\]\.path", "", r":[^:]*"),
)


def anchored(path: tuple[str | int, ...], value: Any, root: Path) -> Any:
    """A value of a field with the local paths in it absolute, where they are relative to `root`."""
    if isinstance(value, dict):
        return {key: anchored((*path, key), item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [anchored((*path, index), item, root) for index, item in enumerate(value)]
    field = re.sub(r"\[\d+\]", "[]", dotted(path))
    for pattern, before, after in PATHS:
        found = re.fullmatch(f"({before})(.*?)({after})", value, re.DOTALL) if isinstance(value, str) else None
        if found and re.fullmatch(pattern, field) and "\0" not in value and not lookup_problem(found[2], root):
            local = local_path(found[2], root)
            return f"{found[1]}{local}{found[3]}" if local and not found[2].startswith("bundled:") else value
    return value


def local_files(resolved: Mapping[str, Any]) -> list[Path]:
    """The files and directories of this machine that a resolved recipe names; of a pattern, the one above it."""
    found: dict[Path, None] = {}
    for field, value in _texts(resolved, ()):
        for pattern, before, after in (*PATHS, (r"eval\.suites\[\]", "lm_eval:", "")):
            parts = re.fullmatch(f"({before})(.*?)({after})", value, re.DOTALL)
            if parts and re.fullmatch(pattern, field) and Path(parts[2]).is_absolute():
                path = Path(parts[2])
                while not path.exists() and re.search(r"[*?\[]", str(path)):
                    path = path.parent
                found[path] = None
    return list(found)


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    """The texts of a recipe with their fields, such as data.train[].path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str):
        yield re.sub(r"\[\d+\]", "[]", dotted(path)), value
