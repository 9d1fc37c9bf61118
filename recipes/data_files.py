"""Which files of a local source are its data, and to which split each belongs.

A directory is not every file that ends rightly: what tools leave there is no data, and the rows of a test file are not
trained on because they lie beside the others. Whatever is neither read nor known to be no data is an error naming it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

from recipes.errors import UserError, did_you_mean
from recipes.paths import READ, data_kind, is_pattern, unpacked_name
from recipes.remote import Remote

# Beside data in the folders of datasets, LLaMA-Factory, Spark, Windows; never rows.
NO_DATA = re.compile(
    r"(dataset_infos?|dataset_dict|state)\.json|(readme|license|licence|notice|citation|copying)(\..*)?|_success"
    r"|_(started|committed)_.*|thumbs\.db|desktop\.ini",
    re.IGNORECASE,
)
NO_DATA_FOLDERS = ("__MACOSX", "__pycache__")
# The words by which `datasets.load_dataset` tells splits too.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
GROUP = {word: group for group, words in SPLITS.items() for word in words}
SHARD = re.compile(r"[-_.]\d+[-_]of[-_]\d+$")
SHOWN = 8
File = Path | Remote
Name = TypeVar("Name", bound=PurePath)


@dataclass(frozen=True)
class Chosen:
    """The files of a source in the order in which they are read, and those of its other splits."""

    files: tuple[File, ...]
    left_out: dict[str, tuple[File, ...]]


def there(path: Path) -> bool:
    """Whether `choose` has something to look at; a pattern is asked what is like it."""
    return path.exists() or is_pattern(path)


def choose(path: Path, split: str | None) -> Chosen:
    """The data files at `path`, a file, a directory, or a pattern such as `data/*.jsonl`.

    Args:
        split: the split whose files are wanted; None takes the only one, and refuses several.

    Raises:
        UserError: nothing to read, something that cannot be read, or no such split.
    """
    try:
        if is_pattern(path):
            return _matching(path, split)
        if not path.is_dir():
            _check_regular(path)
            return single(path, split)
        if (path / "dataset_dict.json").is_file() or ((path / "state.json").is_file() and any(path.glob("*.arrow"))):
            return _saved(path, split)
        return _directory(path, split)
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror or error}") from None


def single(file: File, split: str | None) -> Chosen:
    """One file, asked for by its name."""
    name = PurePath(file.name)
    if data_kind(name) is None:
        raise UserError(f"{file}: cannot read {name.suffix or 'a file without suffix'}; allowed: {READ}")
    if split not in (None, "train", _split_of(name)):
        raise UserError(f"{file}: a single file has no split {split!r}; take split out, or give a directory")
    return Chosen((file,), {})


def _check_regular(path: Path) -> None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        names = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        raise UserError(f"{path}: is {names.get(stat.S_IFMT(mode), 'no file')}, not a file; write the rows to a file")


def _directory(root: Path, split: str | None) -> Chosen:
    files: dict[PurePath, File] = {file.relative_to(root): file for file in sorted(_walk(root))}
    _check_not_saved(str(root), files)
    return by_split(str(root), files, split, asked=False)


def _matching(pattern: Path, split: str | None) -> Chosen:
    """What a pattern stands for: files, and those of directories, as a shell would hand them over."""
    root = fixed_part(pattern)
    files: dict[PurePath, File] = {}
    if "**" in pattern.parts:
        deque(_walk(root), maxlen=0)  # `glob` passes over a directory that it may not read
    for match in sorted(root.glob(str(pattern.relative_to(root)))):
        if not is_no_data(match.relative_to(root)):
            files.update({f.relative_to(root): f for f in (sorted(_walk(match)) if match.is_dir() else [match])})
    if not files:
        raise UserError(f"{pattern}: no data file has such a name")
    _check_not_saved(str(pattern), files)
    return by_split(str(pattern), files, split, asked=True)


def fixed_part(pattern: Name) -> Name:
    """The directory down to which a pattern has no choice; of a path without one, itself."""
    while is_pattern(pattern):
        pattern = pattern.parent
    return pattern


def _check_not_saved(place: str, files: Mapping[PurePath, File]) -> None:
    arrow = [name for name, file in files.items() if isinstance(file, Path) and file.suffix.lower() == ".arrow"]
    saved = [name for name in arrow if (Path(str(files[name])).parent / "state.json").is_file()]
    if saved:
        raise UserError(f"{place}: holds what datasets.save_to_disk wrote, {_named(saved)}; give that directory itself")


def by_split(place: str, files: Mapping[PurePath, File], split: str | None, *, asked: bool) -> Chosen:
    """Those of several files that are of `split`.

    Args:
        files: by their names below `place`.
        asked: a pattern chose them: where all are of one split, that is the one which is meant.

    Raises:
        UserError: something that cannot be read, no such split, or no telling.
    """
    unread = [name for name in files if data_kind(name) is None]
    if unread:
        raise UserError(
            f"{place}: cannot read {_named(unread)}; allowed: {READ}; convert it, take it out of the directory, "
            "or give the files to read, by a pattern (*.jsonl) or each as a source"
        )
    if not files:
        raise UserError(f"{place}: no data in this directory; allowed: {READ}")
    texts = [name for name in files if data_kind(name) == "text"]
    if texts and len(texts) < len(files):
        raise UserError(
            f"{place}: {_named(texts)} is plain text beside rows with columns; take it out of the directory, or give "
            "the files to read, by a pattern (*.jsonl) or each as a source"
        )
    for file in files.values():
        if isinstance(file, Path):
            _check_regular(file)
    labels: dict[str | None, list[PurePath]] = {}
    for name in files:
        labels.setdefault(_split_of(name), []).append(name)
    without = labels.pop(None, [])
    named = {label: tuple(files[name] for name in found) for label, found in labels.items() if label}
    if without and named:
        raise UserError(
            f"{place}: {_named(without)} belongs to no split, and beside it there are {', '.join(sorted(named))}; "
            "give each file as a source of its own"
        )
    if not named:
        if split not in (None, "train"):
            raise UserError(f"{place}: no split {split!r}: its files are named after no split; take split out")
        return Chosen(tuple(files[name] for name in without), {})
    label = _wanted(place, None if asked and len(named) == 1 and split == "train" else split, sorted(named))
    return Chosen(named.pop(label), named)


def _walk(root: Path) -> Iterator[Path]:
    """Every file below `root` that is not hidden or known to be no data; links to directories are followed once.

    Raises:
        OSError: a directory that may not be read.
    """

    def unreadable(error: OSError) -> None:
        raise error

    seen = set()
    for here, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [folder for folder in folders if not is_no_data(PurePath(folder) / "x")]
        yield from (Path(here, name) for name in names if not is_no_data(PurePath(name)))


def is_no_data(name: PurePath) -> bool:
    """Whether a file below a directory is hidden, in a hidden folder, or known to be what a tool left."""
    hidden = any(part.startswith(".") or part in NO_DATA_FOLDERS for part in name.parts[:-1])
    return hidden or name.name.startswith(".") or bool(NO_DATA.fullmatch(name.name))


def _split_of(relative: PurePath) -> str | None:
    """The split that the name of a file, or of a folder above it, tells; what is not for training goes first."""
    labels = [
        _label(unpacked_name(relative.name).stem),
        *(_label(part.lower()) for part in relative.parts[-2::-1]),
    ]
    found = [label for label in labels if label]
    return next((label for label in found if _group(label) != "train"), found[0] if found else None)


def _label(name: str) -> str | None:
    """`train-00000-of-00002` is train, `test_prefs` is test_prefs, `my-dev-2` is dev."""
    base = SHARD.sub("", name)
    words = re.findall(r"[a-z]+", base)
    known = [word for word in words if word in GROUP]
    if not known:
        return None
    # A name that begins with the split and goes on in a word is a split of its own: train_sft beside train_prefs.
    own = re.fullmatch(rf"{known[0]}_(?!(part|shard|chunk|file|v)[-_]?\d)[a-z]\w*", base)
    return base if own else known[0]


def _group(label: str) -> str | None:
    return GROUP.get(re.split(r"[^a-z]", label)[0])


def _wanted(root: Path | str, split: str | None, names: list[str]) -> str:
    """The one of `names` that is meant by `split`: itself, another word for it, or the only one of its kind."""
    if split is None and len(names) == 1:
        return names[0]
    if split in names:
        return split
    alike = [name for name in names if split in GROUP and _group(name) == GROUP[split]]
    words = [name for name in alike if name in GROUP]
    for found in (words, alike):
        if len(found) == 1:
            return found[0]
    there = ", ".join(names)
    if split is None:
        raise UserError(f"{root}: holds several splits, {there}; give the files of one")
    raise UserError(f"{root}: no split {split!r}; there: {there}{did_you_mean(split, names)}; set split to one of them")


def _saved(root: Path, split: str | None) -> Chosen:
    """What `Dataset.save_to_disk` and `DatasetDict.save_to_disk` write."""
    if (root / "dataset_dict.json").is_file():
        names = _json(root / "dataset_dict.json").get("splits")
        if not (isinstance(names, list) and names and all(isinstance(n, str) and Path(n).name == n for n in names)):
            raise UserError(f"{root / 'dataset_dict.json'}: names no splits")
        label = _wanted(root, split, names)
        others: dict[str, tuple[File, ...]] = {name: _arrow_files(root / name) for name in names if name != label}
        return Chosen(_arrow_files(root / label), others)
    own = _json(root / "state.json").get("_split")
    if own and split is not None:
        _wanted(root, split, [str(own)])
    return Chosen(_arrow_files(root), {})


def _arrow_files(directory: Path) -> tuple[Path, ...]:
    listed = _json(directory / "state.json").get("_data_files")
    names = [entry.get("filename") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if not names or not all(isinstance(name, str) and re.fullmatch(r"[^/\\]+\.arrow", name) for name in names):
        raise UserError(f"{directory / 'state.json'}: names no data files, as datasets.save_to_disk does")
    files = tuple(directory / str(name) for name in names)
    for file in files:
        if not file.is_file():
            raise UserError(f"{directory}: {file.name} is missing, which state.json names")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: must be an object, as datasets.save_to_disk writes it")
    return value


def _named(names: Iterable[PurePath]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more files" if len(shown) > SHOWN else "")
