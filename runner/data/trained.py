"""One row of a run as it was trained on, out of what its backend read: for `recipe tokens --row`.

Usage, inside an environment: python -m runner.data.trained SPEC.json

SPEC holds a TrainedSpec; a TrainedRow goes to its target. What cannot be shown goes to `problems`, exit code 2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from recipes.files import write_json
from recipes.methods import METHODS
from recipes.typed import read_typed, write_typed
from runner.data.inspect import part_names, part_of
from runner.data.inspected import Part
from runner.data.passes import Stop
from runner.data.replies import Reply, messages_of, replies_of
from runner.data.written import PACKS


@dataclass(frozen=True, kw_only=True)
class TrainedSpec:
    """Which row, from 1, of a run's prepared data; `model`: a directory with its tokenizer, which says the text."""

    directory: Path
    row: int
    method: str
    last_only: bool
    model: str
    trust_remote_code: bool
    target: Path
    problems: Path


@dataclass(frozen=True, kw_only=True)
class TrainedRow:
    """The row's conversations, and the replies of the first of them."""

    parts: tuple[Part, ...]
    replies: tuple[Reply, ...]


def trained(spec: TrainedSpec) -> TrainedRow:
    """The row with its tokens and mask as they were trained on.

    Raises:
        Stop: there is none, or what is kept of the run does not tell.
    """
    from transformers import AutoTokenizer

    file = spec.directory / "train.jsonl"
    with file.open(encoding="utf-8") as lines:
        line = next(islice(lines, spec.row - 1, None), None)
    if line is None:
        with file.open(encoding="utf-8") as lines:
            raise Stop(f"no training row {spec.row}: {file} has {sum(1 for _ in lines)}")
    tokenizer = AutoTokenizer.from_pretrained(spec.model, trust_remote_code=spec.trust_remote_code)
    kind = METHODS[spec.method].rows
    columns = _columns(spec.directory, spec.row - 1)
    pairs = [(columns[f"{prefix}input_ids"], columns[f"{prefix}labels"]) for prefix in kind.columns]
    messages = messages_of(json.loads(line), spec.method)
    return TrainedRow(
        parts=tuple(
            part_of(name, ids, labels, tokenizer) for name, (ids, labels) in zip(part_names(kind), pairs, strict=True)
        ),
        replies=tuple(replies_of(spec.row, messages, *pairs[0], last_only=spec.last_only)),
    )


def _columns(directory: Path, index: int) -> Mapping[str, list[int]]:
    """The columns of a training row, out of its pack where rows are packed."""
    split = sorted((directory / "tokenized" / "train").glob("data-*.arrow"))  # as `datasets` names them
    packs = directory / PACKS
    if not packs.is_file():
        columns = _nth(split, index)
        if "position_ids" in columns:
            raise Stop(f"the rows are packed, and {packs}, which says where each is, is not there")
        return columns
    for number, pack in enumerate(_rows(packs)):
        if index in pack:
            columns = _nth(split, number)
            # The mask counts a pack's rows, from 1.
            own = [n for n, count in enumerate(columns["attention_mask"]) if count == pack.index(index) + 1]
            return {name: values[own[0] : own[-1] + 1] for name, values in columns.items()}
    raise Stop(f"no pack of {packs} holds row {index + 1}")


def _nth(files: Sequence[Path], index: int) -> Mapping[str, list[int]]:
    for file in files:
        table = _table(file)
        if index < table.num_rows:
            row: dict[str, list[int]] = table.slice(index, 1).to_pylist()[0]
            return row
        index -= table.num_rows
    raise Stop(f"{len(files)} files of tokenized rows end before that row")


def _rows(file: Path) -> list[list[int]]:
    found: list[list[int]] = _table(file).column("rows").to_pylist()
    return found


def _table(file: Path) -> Any:
    import pyarrow

    return pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))).read_all()


def main(file: Path) -> int:
    spec = read_typed(TrainedSpec, file)
    try:
        write_typed(spec.target, trained(spec))
    except Stop as stop:
        write_json(spec.problems, [str(problem) for problem in stop.problems])
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
