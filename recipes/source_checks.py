"""What of a source of rows can be told wrong before anything runs: files that are not there, and fields for others."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from recipes import data_files, remote, schema
from recipes.errors import Problem, UserError, did_you_mean
from recipes.paths import HUB_ID, TEXT_KINDS, data_kind, hub_name, listed, local_path, scheme, unset_variable
from recipes.yaml_text import Document, Values
from recipes.yaml_text import Path as FieldPath

# Which kinds of files a field is for, and how to call them.
FOR_FILES = {
    "encoding": (TEXT_KINDS, "text files (json, csv, txt)"),
    "delimiter": (("csv",), "csv and tsv files"),
    "text": (("text",), "txt files"),
}
NO_TEXT_ENCODINGS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7", "mbcs", "oem")


def sources_of(value: Values) -> Iterator[tuple[FieldPath, Values]]:
    """Each source of rows of a recipe, with its place."""
    data = value["data"]
    for index, source in enumerate(data["train"]):
        yield ("data", "train", index), source
    for index, source in enumerate(data.get("validation", {}).get("sources", [])):
        yield ("data", "validation", "sources", index), source


def paths_of(place: FieldPath, source: Values) -> Iterator[tuple[FieldPath, str]]:
    """Each path of a source, with its place."""
    path = source["path"]
    if isinstance(path, str):
        yield (*place, "path"), path
    else:
        yield from (((*place, "path", index), one) for index, one in enumerate(path))


def weight_problems(value: Values, document: Document) -> Iterator[Problem]:
    """Weights of some training sources and not of others, or of rows that are not trained on."""
    given = [source.get("weight") is not None for source in value["data"]["train"]]
    for place, source in sources_of(value):
        if place[1] != "train" and source.get("weight") is not None:
            yield document.problem(
                (*place, "weight"), "belongs to data.train: held-out rows are not mixed; take it out"
            )
        elif place[1] == "train" and any(given) and source.get("weight") is None:
            yield document.problem((*place, "weight"), "missing: other sources of data.train have one")


def held_out_problems(value: Values, document: Document, root: Path | None) -> Iterator[Problem]:
    """Rows that would be trained on and held out at once.

    Args:
        root: what local paths are relative to; None where the files need not be there.
    """
    trained: dict[tuple[Any, ...], int] = {}
    given = value["data"].get("validation", {}).get("sources")
    for place, source in sources_of(value) if given else ():
        for where, text in paths_of(place, source):
            rows = list(_rows_at(text, source, root))
            if place[1] == "train":
                trained.update(dict.fromkeys(rows, int(place[2])))
            elif same := [trained[one] for one in rows if one in trained]:
                problem = f"the rows of data.train[{same[0]}], which are trained on; set another split or file"
                yield document.problem(where, problem)


def _rows_at(text: str, source: Values, root: Path | None) -> Iterator[tuple[Any, ...]]:
    """What tells the rows at a path from others: where they lie, and of files that are here each file itself."""
    if source.get("format") == "longbench":
        from recipes.longbench import names  # with zipfile

        yield from ((text, subset) for subset in source.get("subsets") or names())
        return
    split = source.get("split", "train")
    yield text, split, source.get("subset"), source.get("revision")
    path = local_path(text, root) if root else None
    if path is not None:
        # One file may be named by itself, in a directory and by a pattern; what is wrong with them is told elsewhere.
        with suppress(UserError, OSError):
            files = [Path(str(file)).stat() for file in data_files.choose(path, split).files]
            yield from ((status.st_dev, status.st_ino) for status in files)


def source_problems(place: FieldPath, source: Values, document: Document, root: Path) -> Iterator[Problem]:
    """A path without data, and fields that cannot act on what it holds or have a value that none has."""
    if source.get("shuffle") and source.get("max_samples") is None:
        yield document.problem(
            (*place, "shuffle"), "belongs to max_samples, which says how many rows to take at random"
        )
    count = source.get("max_samples")
    if isinstance(count, float) and count >= 1:
        text = f"{count} is neither a count, which is written without a point, nor a fraction below 1; null takes all"
        yield document.problem((*place, "max_samples"), text)
    yield from _longbench_problems(place, source, document, root)
    if source.get("format") == "longbench":
        return
    for leaf, text in (("encoding", _no_encoding(source)), ("delimiter", _no_delimiter(source))):
        if text:
            yield document.problem((*place, leaf), text)
    found: list[set[str] | None] = []
    for where, path in paths_of(place, source):
        try:
            found.append(_kinds(path, source.get("split", "train"), root))
        except UserError as error:
            yield document.problem(where, error.problems[0].text)
            return
    # A field acts where one of the files is of its kind.
    kinds = None if None in found else set().union(*filter(None, found))
    for leaf, (wanted, shown) in FOR_FILES.items():
        if source.get(leaf, default := _default(leaf)) != default and kinds is not None and not kinds & set(wanted):
            what = f"holds {', '.join(sorted(kinds))}" if kinds else "is a data set of a hub"
            name = ", ".join(listed(source["path"]))
            yield document.problem((*place, leaf), f"belongs to {shown}, and {name} {what}; take it out")


def _default(leaf: str) -> Any:
    """Of a source's field: it stands in every recipe that is written out whole."""
    return schema.schema()["$defs"]["source"]["properties"][leaf]["default"]


def _longbench_problems(place: FieldPath, source: Values, document: Document, root: Path) -> Iterator[Problem]:
    """Fields of LongBench beside another format, and subsets that are not there."""
    if source.get("format") != "longbench":
        for leaf in ("subsets", "answers"):
            if source.get(leaf, default := _default(leaf)) != default:
                yield document.problem((*place, leaf), "belongs to format: longbench; take it out, or set that format")
        return
    from recipes.longbench import subset_files  # with zipfile

    for where, text in paths_of(place, source):
        path = local_path(text, root)
        try:
            if path is not None and not path.exists():
                raise UserError(f"no such file or directory: {path}")
            if path is not None:
                subset_files(path, source.get("subsets", ()), buckets=False)
        except UserError as error:
            yield document.problem(where, error.problems[0].text)


def _kinds(text: str, split: str, root: Path) -> set[str] | None:
    """The kinds of a path's files: none of a hub's data set, None where only the store knows.

    Raises:
        UserError: there are no such files.
    """
    path = local_path(text, root)
    if path is not None:
        if not data_files.there(path):
            siblings = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
            raise UserError(f"no such file: {path}{unset_variable(text) or did_you_mean(path.name, siblings)}")
        return {data_kind(Path(file.name)) or "" for file in data_files.choose(path, split).files}
    if not scheme(text) and not HUB_ID.fullmatch(text):
        raise UserError(f"{text[:80]!r} is neither a file here nor a data set of a hub{unset_variable(text)}")
    if not scheme(text) or hub_name(text):
        return set()
    if problem := remote.problem(text):
        raise UserError(problem)
    kind = data_kind(PurePosixPath(text))
    return {kind} if kind else None


def _no_encoding(source: Values) -> str:
    name = source.get("encoding", "utf-8")
    try:
        b"".decode(name)
        known = codecs.lookup(name).name.replace("_", "-") not in NO_TEXT_ENCODINGS
    except (LookupError, ValueError, UnicodeError):
        known = False
    names = ["utf-8", "utf-16", "gb18030", "big5", "shift_jis", "euc_kr", "cp1252", "cp1251"]
    near = did_you_mean(name, names)
    return (
        "" if known else f"{name!r} is no encoding of text; allowed: {', '.join(names)} and Python's other ones{near}"
    )


def _no_delimiter(source: Values) -> str:
    given = source.get("delimiter")
    if given is None or (len(given) == 1 and given not in '"\r\n'):
        return ""
    tab = r'; a tab is written "\t", in double quotes' if given in (r"\t", "tab", "TAB") else ""
    return f"{given!r} is not allowed; allowed: one character that is no quote and no line's end{tab}"
