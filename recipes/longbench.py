"""Where the subsets of LongBench lie: in its data.zip, or in a directory of `<subset>.jsonl`."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from recipes.errors import UserError, did_you_mean
from recipes.schema import schema

Subset = Path | zipfile.Path


def names() -> tuple[str, ...]:
    """The subsets of LongBench."""
    return tuple(schema()["$defs"]["longbench_subset"]["enum"])


def subset_files(source: Path, wanted: Sequence[str] = (), *, buckets: bool = True) -> dict[str, Subset]:
    """The wanted subsets' files; of the zip, which holds everything, LongBench-E only where it is asked for.

    Args:
        wanted: subset names, `e` for all of LongBench-E; empty for what there is.
        buckets: whether a directory's LongBench-E is part of what there is.

    Raises:
        UserError: there are none, or not all that are wanted.
    """
    zipped = zipfile.is_zipfile(source)
    found: Sequence[Subset]
    if zipped:
        found = list(zipfile.Path(source, "data/").iterdir())
    else:
        found = [source] if source.is_file() else sorted(source.glob("*.jsonl"))
    stems = {path.name.removesuffix(".jsonl"): path for path in found}
    files = {name: path for name, path in stems.items() if name.removesuffix("_e") in names()}
    if not files:
        raise UserError(f"{source}: longbench: no <subset>.jsonl; the subsets are {', '.join(names())}")
    of_e = [name for name in files if name.endswith("_e")]
    every = [name for name in files if not (name in of_e and (zipped or not buckets))]
    chosen = [name for asked in wanted for name in (of_e if asked == "e" else [asked])] or every
    gone = [
        f"{source}: longbench: no subset {name!r}{did_you_mean(name, files)}" for name in chosen if name not in files
    ]
    if gone:
        raise UserError(*gone)
    return {name: files[name] for name in chosen}
