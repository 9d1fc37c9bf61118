"""What is written of the kept rows: JSON lines for people, an Arrow data set for backends, prompts for samples."""

from __future__ import annotations

import json
import random
import secrets
import shutil
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from recipes.encode import IGNORE, Encoded
from recipes.methods import FEEDBACK, METHODS, Rows
from runner.data.arrow import ArrowFile, copy_rows
from runner.data.formats import Raw
from runner.data.packs import Packed, write_blocks, write_document_packs, write_packs

ONE = array("i", [1])
PACKS = "packs.arrow"  # beside the tokenized rows: which of train.jsonl each pack holds
MEDIA = ("images", "videos", "audios")  # LLaMA-Factory's collators for pairs and feedback want these columns


class Writer:
    """Writes kept rows as JSON lines and as an Arrow file, and counts their tokens."""

    def __init__(self, directory: Path, method: str) -> None:
        directory.mkdir(parents=True)
        self.directory, self.kind = directory, METHODS[method].rows
        self.text = (directory / "rows.jsonl").open("w", encoding="utf-8")
        self.arrow = _arrow_file(directory / "rows.arrow", self.kind) if self.kind.columns else None
        self.tokens = array("I")  # of each row; arrays, because a list would grow to 100 MB on a million rows
        self.supervised = array("I")  # of these, with loss
        self.thought = array("I")  # of these, of a reply's thinking
        self.longest = array("I")  # of its longest part: a preference pair has two
        self.sources = array("I")  # the number of its source
        self.truncated = bytearray()  # whether it was cut to max_length

    def add(self, row: Raw, parts: list[Encoded], truncated: bool, source: int) -> None:
        self.sources.append(source)
        self.truncated.append(truncated)
        self.text.write(json.dumps(row, ensure_ascii=False) + "\n")
        scored = parts[:1] if self.kind is FEEDBACK else parts
        self.tokens.append(sum(len(p.ids) for p in scored))
        self.longest.append(max(len(p.ids) for p in parts))
        self.supervised.append(sum(p.supervised for p in scored))
        self.thought.append(sum(p.thought for p in scored))
        if self.arrow:
            self.arrow.write(_lists(parts, self.kind), _values(row, self.kind))

    def close(self) -> None:
        self.text.close()
        if self.arrow:
            self.arrow.close()


def _arrow_file(path: Path, kind: Rows) -> ArrowFile:
    widths = {"input_ids": 32, "attention_mask": 8, "labels": 32}
    values = dict.fromkeys(MEDIA, "null") if kind.pair or kind is FEEDBACK else {}
    return ArrowFile(
        path,
        {prefix + name: width for prefix in kind.columns for name, width in widths.items()},
        {**({"kto_tags": "bool_"} if kind is FEEDBACK else {}), **values},
        seekable=True,
    )


def _lists(parts: list[Encoded], kind: Rows) -> dict[str, array[int]]:
    found: dict[str, array[int]] = {}
    for prefix, part in zip(kind.columns, parts, strict=True):
        ids = array("i", part.ids)
        labels = array("i", [IGNORE]) * len(ids)
        for first, last in part.loss:
            labels[first:last] = ids[first:last]
        found |= {f"{prefix}input_ids": ids, f"{prefix}attention_mask": ONE * len(ids), f"{prefix}labels": labels}
    return found


def _values(row: Raw, kind: Rows) -> Raw:
    media = dict.fromkeys(MEDIA) if kind.pair or kind is FEEDBACK else {}
    return {**({"kto_tags": row["label"]} if kind is FEEDBACK else {}), **media}


Splits = dict[str, tuple[Writer, Sequence[int]]]


def split_rows(rows: Writer, fraction: float, seed: int) -> Splits:
    count = len(rows.tokens)
    chosen = held_out(count, fraction, seed)
    splits: Splits = {"train": (rows, array("I", (n for n in range(count) if n not in chosen)))}
    if chosen:
        splits["validation"] = (rows, array("I", sorted(chosen)))
    return splits


def held_out(count: int, fraction: float, seed: int) -> set[int]:
    """Which of `count` rows are held out: at least one, where there are two and a fraction is asked for."""
    wanted = round(count * fraction)
    if fraction and not wanted and count > 1:
        wanted = 1
    return set(random.Random(seed).sample(range(count), wanted))


def write_lines(writer: Writer, indices: Sequence[int], target: Path) -> None:
    """Write the rows of these indices, in their order; one may be there several times."""
    with (writer.directory / "rows.jsonl").open("rb") as source, target.open("wb") as out:
        begins = array("Q", accumulate(map(len, source), initial=0))
        for index in indices:
            source.seek(begins[index])
            out.write(source.readline())


def write_tokenized(splits: Splits, target: Path, max_length: int, *, packing: bool = False) -> Packed | None:
    """Write what backends train on; returns how the training rows were put together, where they were."""
    shutil.rmtree(target, ignore_errors=True)
    found, packed = dict[str, Path](), None
    for name, (writer, indices) in splits.items():
        rows, found[name] = writer.directory / "rows.arrow", writer.directory / f"{name}.arrow"
        if not writer.kind.chat and packing and name == "train":
            made = write_document_packs(rows, indices, writer.longest, max_length, found[name])
        elif not writer.kind.chat:
            made = write_blocks(rows, indices, max_length, found[name])
        elif packing and name == "train":  # validation rows stay apart: their loss is theirs
            made = write_packs(rows, indices, writer.longest, max_length, found[name], target.with_name(PACKS))
        else:
            copy_rows(rows, indices, found[name])
            continue
        packed = made if name == "train" else packed
    _save(found, target)
    return packed


def _save(files: Mapping[str, Path], target: Path) -> None:
    """Make a data set of Arrow streams, one a split: `datasets` writes it with a row each, and is given the whole."""
    import pyarrow as pa
    from datasets import Dataset, DatasetDict, disable_progress_bars
    from datasets.table import InMemoryTable

    disable_progress_bars()
    begun = {}
    for name, file in files.items():
        with pa.OSFile(str(file)) as stream:
            first = pa.ipc.open_stream(stream).read_next_batch().slice(0, 1)
        begun[name] = Dataset(InMemoryTable(pa.Table.from_batches([first])), fingerprint=secrets.token_hex(8))
    DatasetDict(begun).save_to_disk(str(target))
    for name, file in files.items():
        (written,) = (target / name).glob("data-*.arrow")
        file.replace(written)


def write_test_prompts(count: int, splits: Splits, directory: Path) -> None:
    name = "validation" if "validation" in splits else "train"
    picked: list[Raw] = []
    with (directory / f"{name}.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            if len(picked) == count:
                break
            picked.append({**_prompt_of(json.loads(line)), "held_out": name == "validation"})
    (directory / "test_prompts.json").write_text(json.dumps(picked, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _prompt_of(row: Raw) -> Raw:
    if "messages" in row:
        return {"prompt": row["messages"][:-1], "reference": row["messages"][-1]["content"] or None}
    if "chosen" in row:
        return {"prompt": row["prompt"], "reference": row["chosen"][-1]["content"] or None}
    if "completion" in row:
        return {"prompt": row["prompt"], "reference": row["completion"][-1]["content"] if row["label"] else None}
    return {"prompt": row["prompt"], "reference": row["answer"]}
