"""Prepares a recipe's data: reads, checks, encodes, splits, writes, and accounts for every row.

Usage: python -m runner.data.prepare SPEC.json

SPEC holds a runner.data.spec.PrepareSpec. Memory does not grow with the rows: they stream through in chunks. What is
wrong with the data goes to `problems.json`, exit code 2.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from recipes.documents import Documents, load_documents
from recipes.encode import BadRow, Encoder, load_encoder
from recipes.errors import UserError
from recipes.files import write_json
from recipes.methods import METHODS
from recipes.model_files import refuse_adapter, refuse_mixing
from recipes.stops import for_model
from recipes.typed import read_typed, write_typed
from recipes.types import Source
from runner.data.contamination import Scored, not_compared, read_scored
from runner.data.mixture import mixed, of_sources, weighted
from runner.data.notes import printable
from runner.data.packs import Packed
from runner.data.passes import Preparation, Stop
from runner.data.read import BadData
from runner.data.replies import write_replies
from runner.data.shares import limited
from runner.data.spec import Accounting, PrepareSpec
from runner.data.written import Splits, Writer, split_rows, write_lines, write_test_prompts, write_tokenized


def prepare(spec: PrepareSpec) -> Accounting:
    """Prepare everything under `spec.directory`; returns the accounting.

    Raises:
        Stop: the data cannot be trained on.
    """
    directory = spec.directory
    work = directory / "work"
    shutil.rmtree(work, ignore_errors=True)
    encoder = encoder_of(spec)
    try:
        spec = replace(spec, data=limited(spec.data))
    except BadData as error:
        raise Stop(printable(str(error))) from None
    train = Preparation(spec, encoder, scored_of(spec))
    rows = _write(train, spec.data.train, work / "train")
    validation = spec.data.validation
    held_out: Preparation | None = None
    if validation.sources:
        held_out = Preparation(spec, encoder)
        held_out.seen, held_out.near = train.seen, train.near
        chosen = _write(held_out, validation.sources, work / "validation")
        splits: Splits = {"train": (rows, range(len(rows.tokens))), "validation": (chosen, range(len(chosen.tokens)))}
    else:
        splits = split_rows(rows, validation.fraction, spec.data.seed)
    _check_not_empty(splits, train)
    for one in filter(None, [train, held_out]):
        _check_loss(one)
    order = splits["train"][1]
    if weighted(spec.data.train):
        order = mixed(order, rows.sources, spec.data.train, spec.data.seed)
    written: Splits = {**splits, "train": (rows, order)}
    for name, (writer, indices) in written.items():
        write_lines(writer, indices, directory / f"{name}.jsonl")
    packed = None
    if METHODS[spec.method].rows.columns:
        packed = write_tokenized(written, directory / "tokenized", spec.max_length, packing=spec.data.packing)
    if METHODS[spec.method].rows.chat:
        write_test_prompts(spec.data.test_prompts, splits, directory)
        if METHODS[spec.method].rows.columns:
            write_replies(rows, order, spec.method, directory, last_only=train.last_only)
    if spec.model.get("tokenizer") or spec.model.get(
        "add_tokens"
    ):  # what trains, and scores the base, loads it from here
        encoder.tokenizer.save_pretrained(str(directory / "tokenizer"))
    accounting = _account(spec, encoder, train, held_out, splits, order, packed, directory)
    shutil.rmtree(work)
    return accounting


def encoder_of(spec: PrepareSpec) -> Encoder | Documents:
    """What encodes the rows of a method with the model's tokenizer.

    Raises:
        Stop: the model cannot be used.
    """
    try:
        with _without_torch(bool(spec.model["trust_remote_code"])):
            refuse_adapter(spec.model["path"], spec.model["revision"])
            if spec.together:
                refuse_mixing(spec.model["path"], spec.model["revision"], spec.together)
            if not METHODS[spec.method].rows.chat:
                return load_documents(spec.model)
            encoder = load_encoder(spec.model)
    except BadRow as error:
        raise Stop(str(error)) from None
    if encoder.unread:
        raise Stop(*(f"model.chat_template_kwargs.{text}" for text in encoder.unread))
    return encoder


def scored_of(spec: PrepareSpec) -> Scored:
    """The texts of the suites that training rows are compared with.

    Raises:
        Stop: they cannot be read.
    """
    try:
        return read_scored(spec.scored, spec.longbench_subsets)
    except BadData as error:
        raise Stop(printable(str(error))) from None


@contextmanager
def _without_torch(trust_remote_code: bool) -> Iterator[None]:
    """A tokenizer needs no torch, and importing it is two thirds of what preparing a small data set costs."""
    if not trust_remote_code and "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if sys.modules.get("torch", sys) is None:
            del sys.modules["torch"]


def _write(preparation: Preparation, sources: Iterable[Source], directory: Path) -> Writer:
    writer = Writer(directory, preparation.method)
    try:
        for row, parts, truncated in preparation.rows(sources):
            writer.add(row, parts, truncated, preparation.source)
    except BadData as error:
        raise Stop(*preparation.problems.lines(), printable(str(error))) from None
    finally:
        writer.close()
    return writer


def _check_not_empty(splits: Splits, train: Preparation) -> None:
    for name, (_, indices) in splits.items():
        if not len(indices):
            reasons = (
                "; ".join(f"{count} {reason}" for reason, count in train.dropped.items()) or "the sources are empty"
            )
            raise Stop(f"no {name} row is left of {train.rows_in.total()}: {reasons}")


def _check_loss(preparation: Preparation) -> None:
    """More than half of the rows gone is a mistake of the recipe or of the data, unless it says otherwise."""
    gone, rows = preparation.dropped.total(), preparation.rows_in.total()
    if gone * 2 > rows and not preparation.data.allow_loss:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in preparation.dropped.most_common())
        longest = preparation.longest_dropped
        limit = f" (the longest has {longest:,} tokens, the limit is {preparation.max_length:,})" if longest else ""
        raise Stop(
            f"data: {gone:,} of {rows:,} rows would be dropped: {reasons}{limit}; look at them with `recipe data "
            "check`, or set data.allow_loss: true"
        )


def _account(
    spec: PrepareSpec,
    encoder: Encoder | Documents,
    train: Preparation,
    held_out: Preparation | None,
    splits: Splits,
    order: Sequence[int],
    packed: Packed | None,
    directory: Path,
) -> Accounting:
    writer, indices = splits["train"]
    template = (encoder.template or encoder.tokenizer.chat_template) if METHODS[spec.method].rows.chat else ""
    other = splits.get("validation")
    passes = [train, held_out] if held_out else [train]
    dropped = sum((p.dropped for p in passes), Counter[str]())
    files = {file: sum(p.files[file] for p in passes) for p in passes for file in p.files}
    left_out = {split: [f for f in found if f not in files] for p in passes for split, found in p.left_out.items()}
    accounting = Accounting(
        rows_in=sum(p.rows_in.total() for p in passes),
        trained=len(indices),
        truncated_of_trained=sum(writer.truncated[n] for n in indices),
        validation=len(other[1]) if other else 0,
        truncated_of_validation=sum(other[0].truncated[n] for n in other[1]) if other else 0,
        dropped=dict(dropped),
        longest_dropped=max(p.longest_dropped for p in passes),
        tokens=sum(writer.tokens[n] for n in order),
        supervised_tokens=sum(writer.supervised[n] for n in order),
        thought_tokens=sum(writer.thought[n] for n in order),
        longest=max(writer.longest[n] for n in indices),
        longest_of_validation=max((other[0].longest[n] for n in other[1]), default=0) if other else 0,
        max_length=spec.max_length,
        sources=dict(sum((p.rows_in for p in passes), Counter[str]())),
        files=files,
        left_out={split: tuple(found) for split, found in left_out.items() if found},
        unused_columns=dict(sum((p.unused for p in passes), Counter[str]())),
        sha256={name: _sha256(directory / f"{name}.jsonl") for name in splits},
        notes=dict(sum((p.notes for p in passes), Counter[str]())),
        model_notes=(*encoder.end.notes, *not_compared(spec.unseen)),
        end_tokens=for_model(encoder.end, template),
        template_sha256=hashlib.sha256(template.encode()).hexdigest(),
        mixture=of_sources(order, writer.sources, spec.data.train) if weighted(spec.data.train) else {},
        sequences=packed.sequences if packed else 0,
        sequence_length=packed.length if packed else 0,
        sequence_tokens=packed.tokens if packed else 0,
    )
    if len(indices) + accounting.validation + dropped.total() != accounting.rows_in:
        raise AssertionError(f"rows do not add up: {accounting}")
    return accounting


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(spec_file: Path) -> int:
    spec = read_typed(PrepareSpec, spec_file)
    try:
        accounting = prepare(spec)
    except (Stop, UserError) as stop:
        found = [str(problem) for problem in stop.problems]
        print(*found, sep="\n")  # for `recipe logs`
        write_json(spec.directory / "problems.json", found)
        return 2
    # Written last: its existence means that the data are whole.
    write_typed(spec.directory / "accounting.json", accounting)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
