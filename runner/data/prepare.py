"""Prepares a recipe's data: reads, checks, encodes, splits, writes, and accounts for every row.

Usage: python -m runner.data.prepare SPEC.json

The spec is what `runner.prepare` writes: method, model, data (the recipe's own section) and directory. Memory does not
grow with the rows: they stream through in chunks. What is wrong with the data goes to `problems.json`, exit code 2.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from recipes.encode import BadRow, Encoded, Encoder, load_encoder
from recipes.errors import UserError
from recipes.model_files import refuse_adapter
from recipes.stops import for_model
from runner.data.formats import convert, detect
from runner.data.read import BadData, read

CHUNK = 256
MEDIA = ("images", "videos", "audios")  # LLaMA-Factory's collators for pairs and feedback want these columns
MAX_PROBLEMS = 20
TOO_LONG, PROMPT_TOO_LONG, NOTHING, MALFORMED = (
    "longer than max_length",
    "prompt longer than max_length",
    "nothing to train on",
    "malformed",
)


class Stop(Exception):
    """The data cannot be trained on; carries every problem found."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Preparation:
    """One pass over the sources of one split group, with its counts."""

    def __init__(self, spec: dict[str, Any], encoder: Encoder) -> None:
        self.method: str = spec["method"]
        self.data: dict[str, Any] = spec["data"]
        self.max_length: int = spec["max_length"]
        self.encoder = encoder
        self.dropped: Counter[str] = Counter()
        self.rows_in: Counter[str] = Counter()
        self.problems: list[str] = []
        self.notes: Counter[str] = Counter()
        self._previous: list[dict[str, str]] | None = None  # KTO: the reply before the chunk
        self._reported = time.monotonic()

    def rows(self, sources: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[Encoded], bool]]:
        """Each kept row: canonical, encoded (one conversation, or two for pairs), and whether it was truncated."""
        chunk: list[tuple[str, dict[str, Any]]] = []
        for place, row in chain.from_iterable(self._canonical(source) for source in sources):
            chunk.append((place, row))
            if len(chunk) == CHUNK:
                yield from self._encode(chunk)
                chunk = []
        yield from self._encode(chunk)
        if self.problems:
            raise Stop(*self.problems)

    def _canonical(self, source: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        format_name = source["format"]
        for raw in read(source):
            self.rows_in[source["path"]] += 1
            self._report()
            try:
                if format_name == "auto":
                    renamed = {**raw.value, **source["columns"]} if isinstance(raw.value, dict) else raw.value
                    format_name = detect(renamed, self.method)
                yield raw.place, convert(raw.value, format_name, source)
            except BadRow as error:
                self._bad(raw.place, str(error))

    def _bad(self, place: str, text: str, reason: str = MALFORMED) -> None:
        if self.data["on_bad_row"] == "drop" and reason == MALFORMED:
            self.dropped[f"{MALFORMED}: {text.partition(';')[0][:80]}"] += 1
            return
        self.problems.append(f"{place}: {text}")
        if len(self.problems) == MAX_PROBLEMS:
            raise Stop(*self.problems, f"and perhaps more: stopped at {MAX_PROBLEMS}")

    def _report(self) -> None:
        if time.monotonic() - self._reported > 1:
            self._reported = time.monotonic()
            print(json.dumps({"rows": self.rows_in.total()}), flush=True)

    def _encode(self, chunk: list[tuple[str, dict[str, Any]]]) -> Iterator[tuple[dict[str, Any], list[Encoded], bool]]:
        if not chunk:
            return
        conversations = [self._conversations(row, n, chunk) for n, (_, row) in enumerate(chunk)]
        last_only = self.method != "sft" or self.data["train_on"] == "last_turn"
        encoded = iter(self.encoder.encode(list(chain.from_iterable(conversations)), last_only=last_only))
        for (place, row), parts in zip(chunk, conversations, strict=True):
            results = [next(encoded) for _ in parts]
            bad = next((r for r in results if isinstance(r, BadRow)), None)
            if bad is not None:
                self._bad(place, str(bad))
                continue
            noted = list(dict.fromkeys(note for r in results if isinstance(r, Encoded) for note in r.notes))
            if noted and self.data["on_note"] == "error":
                self._bad(place, "; ".join(noted))
                continue
            kept = self._fit(place, [r for r in results if isinstance(r, Encoded)])
            if kept is not None:
                self.notes.update(noted)
                yield row, kept[0], kept[1]
        if self.method == "kto":
            self._previous = chunk[-1][1]["completion"]

    def _conversations(self, row: dict[str, Any], n: int, chunk: list[Any]) -> list[list[dict[str, str]]]:
        if self.method == "sft":
            return [row["messages"]]
        if self.method == "grpo":
            return [row["prompt"]]
        if self.method == "kto":
            return [row["prompt"] + row["completion"], row["prompt"] + self._other_reply(n, chunk)]
        return [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]]

    def _other_reply(self, n: int, chunk: list[Any]) -> list[dict[str, str]]:
        """KTO estimates its KL term on mismatched pairs: this prompt with the reply of the row before (as TRL)."""
        if n == 0 and self._previous is not None:
            return self._previous
        other: list[dict[str, str]] = chunk[n - 1][1]["completion"]
        if len(chunk) == 1 and self._previous is None:
            raise Stop("kto needs at least 2 rows: its KL term pairs each prompt with another row's reply")
        return other

    def _fit(self, place: str, parts: list[Encoded]) -> tuple[list[Encoded], bool] | None:
        """The parts within max_length and whether one was cut; None where the row is dropped."""
        if self.method != "grpo" and any(part.supervised == 0 for part in parts):
            self.dropped[NOTHING] += 1
            return None
        longest = max(len(part.ids) for part in parts)
        if longest <= self.max_length:
            return parts, False
        if self.data["overlong"] == "error":
            self._bad(place, f"{longest} tokens, max_length is {self.max_length}", TOO_LONG)
            return None
        if self.data["overlong"] == "drop" or self.method == "grpo":
            self.dropped[TOO_LONG] += 1
            return None
        if any(part.prompt_length >= self.max_length for part in parts):
            self.dropped[PROMPT_TOO_LONG] += 1
            return None
        return [part.cut(self.max_length) for part in parts], True


class Writer:
    """Writes kept rows as JSON lines and as an Arrow file, and counts their tokens."""

    def __init__(self, directory: Path, method: str) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.method = method
        self.text = (directory / "rows.jsonl").open("w", encoding="utf-8")
        self.arrow = _arrow_writer(directory / "rows.arrow", method) if method != "grpo" else None
        self.truncated: set[int] = set()
        self.tokens = array("L")  # of each row; arrays, because a list would grow to 100 MB on a million rows
        self.supervised = array("L")  # of these, with loss
        self.longest = array("L")  # of its longest part: a preference pair has two

    def add(self, row: dict[str, Any], parts: list[Encoded], truncated: bool) -> None:
        if truncated:
            self.truncated.add(len(self.tokens))
        self.text.write(json.dumps(row, ensure_ascii=False) + "\n")
        scored = parts[:1] if self.method == "kto" else parts
        self.tokens.append(sum(len(p.ids) for p in scored))
        self.longest.append(max(len(p.ids) for p in parts))
        self.supervised.append(sum(p.supervised for p in scored))
        if self.arrow is not None:  # an empty ArrowWriter is falsy
            self.arrow.write(_columns(row, parts, self.method))

    def close(self) -> None:
        self.text.close()
        if self.arrow is not None:
            self.arrow.finalize()


def _arrow_writer(path: Path, method: str) -> Any:
    from datasets import Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    kinds = {"input_ids": Value("int32"), "attention_mask": Value("int8"), "labels": Value("int32")}
    prefixes = {"sft": ("",), "kto": ("", "kl_"), "dpo": ("chosen_", "rejected_"), "orpo": ("chosen_", "rejected_")}
    features = {p + name: Sequence(kind) for p in prefixes[method] for name, kind in kinds.items()}
    if method == "kto":
        features["kto_tags"] = Value("bool")
    if method != "sft":
        features |= dict.fromkeys(MEDIA, Value("null"))
    return ArrowWriter(path=str(path), features=Features(features))


def _columns(row: dict[str, Any], parts: list[Encoded], method: str) -> dict[str, Any]:
    prefixes = {"sft": ("",), "kto": ("", "kl_")}.get(method, ("chosen_", "rejected_"))
    columns: dict[str, Any] = dict.fromkeys(MEDIA) if method != "sft" else {}
    if method == "kto":
        columns["kto_tags"] = row["label"]
    for prefix, part in zip(prefixes, parts, strict=True):
        columns[f"{prefix}input_ids"] = part.ids
        columns[f"{prefix}attention_mask"] = [1] * len(part.ids)
        columns[f"{prefix}labels"] = part.labels
    return columns


Splits = dict[str, tuple[Writer, Sequence[int]]]


def prepare(spec: dict[str, Any]) -> dict[str, Any]:
    """Prepare everything under `spec["directory"]`; returns the accounting.

    Raises:
        Stop: the data cannot be trained on.
    """
    directory = Path(spec["directory"])
    work = directory / "work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        with _without_torch(spec["model"]["trust_remote_code"]):
            refuse_adapter(spec["model"]["path"], spec["model"]["revision"])
            encoder = load_encoder(spec["model"])
    except BadRow as error:
        raise Stop(str(error)) from None
    train = Preparation(spec, encoder)
    rows = _write(train, spec["data"]["train"], work / "train")
    validation, held_out = spec["data"]["validation"], None
    if validation["sources"]:
        held_out = Preparation(spec, encoder)
        chosen = _write(held_out, validation["sources"], work / "validation")
        splits: Splits = {"train": (rows, range(len(rows.tokens))), "validation": (chosen, range(len(chosen.tokens)))}
    else:
        splits = _split(rows, validation["fraction"], spec["data"]["seed"])
    _check_not_empty(splits, train)
    for name, (writer, indices) in splits.items():
        _write_lines(writer, indices, directory / f"{name}.jsonl")
    if spec["method"] != "grpo":
        _write_tokenized(splits, directory / "tokenized")
    _write_test_prompts(spec, splits, directory)
    accounting = _account(spec, encoder, train, held_out, splits, directory)
    shutil.rmtree(work)
    return accounting


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


def _write(preparation: Preparation, sources: list[dict[str, Any]], directory: Path) -> Writer:
    writer = Writer(directory, preparation.method)
    try:
        for row, parts, truncated in preparation.rows(sources):
            writer.add(row, parts, truncated)
    except BadData as error:
        raise Stop(*preparation.problems, str(error)) from None
    finally:
        writer.close()
    return writer


def _split(rows: Writer, fraction: float, seed: int) -> Splits:
    count = len(rows.tokens)
    held_out = round(count * fraction)
    if fraction and not held_out and count > 1:
        held_out = 1
    chosen = set(random.Random(seed).sample(range(count), held_out))
    splits: Splits = {"train": (rows, [n for n in range(count) if n not in chosen])}
    if chosen:
        splits["validation"] = (rows, sorted(chosen))
    return splits


def _check_not_empty(splits: Splits, train: Preparation) -> None:
    for name, (_, indices) in splits.items():
        if not len(indices):
            reasons = (
                "; ".join(f"{count} {reason}" for reason, count in train.dropped.items()) or "the sources are empty"
            )
            raise Stop(f"no {name} row is left of {train.rows_in.total()}: {reasons}")


def _write_lines(writer: Writer, indices: Sequence[int], target: Path) -> None:
    wanted = set(indices)
    with (writer.directory / "rows.jsonl").open(encoding="utf-8") as source, target.open("w", encoding="utf-8") as out:
        out.writelines(line for number, line in enumerate(source) if number in wanted)


def _write_tokenized(splits: Splits, target: Path) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    shutil.rmtree(target, ignore_errors=True)
    DatasetDict(
        {
            name: Dataset.from_file(str(writer.directory / "rows.arrow")).select(indices)
            for name, (writer, indices) in splits.items()
        }
    ).save_to_disk(str(target))


def _write_test_prompts(spec: dict[str, Any], splits: Splits, directory: Path) -> None:
    name = "validation" if "validation" in splits else "train"
    picked: list[dict[str, Any]] = []
    with (directory / f"{name}.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            if len(picked) == spec["data"]["test_prompts"]:
                break
            picked.append({**_prompt_of(json.loads(line)), "held_out": name == "validation"})
    (directory / "test_prompts.json").write_text(json.dumps(picked, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _prompt_of(row: dict[str, Any]) -> dict[str, Any]:
    if "messages" in row:
        return {"prompt": row["messages"][:-1], "reference": row["messages"][-1]["content"]}
    if "chosen" in row:
        return {"prompt": row["prompt"], "reference": row["chosen"][-1]["content"]}
    if "completion" in row:
        return {"prompt": row["prompt"], "reference": row["completion"][-1]["content"] if row["label"] else None}
    return {"prompt": row["prompt"], "reference": row["answer"]}


def _account(
    spec: dict[str, Any],
    encoder: Encoder,
    train: Preparation,
    held_out: Preparation | None,
    splits: Splits,
    directory: Path,
) -> dict[str, Any]:
    writer, indices = splits["train"]
    truncated = sum(n in writer.truncated for n in indices)
    other = splits.get("validation")
    dropped = train.dropped + (held_out.dropped if held_out else Counter())
    accounting = {
        "rows_in": train.rows_in.total() + (held_out.rows_in.total() if held_out else 0),
        "trained": len(indices) - truncated,
        "truncated": truncated,
        "validation": len(other[1]) if other else 0,
        "dropped": dict(dropped),
        "train_rows": len(indices),
        "tokens": sum(writer.tokens[n] for n in indices),
        "supervised_tokens": sum(writer.supervised[n] for n in indices),
        "longest": max(writer.longest[n] for n in indices),
        "max_length": spec["max_length"],
        "sources": dict(train.rows_in) | (dict(held_out.rows_in) if held_out else {}),
        "sha256": {name: _sha256(directory / f"{name}.jsonl") for name in splits},
        "notes": dict(train.notes + (held_out.notes if held_out else Counter())),
        "model_notes": list(encoder.end.notes),
        "end_tokens": for_model(encoder.end, encoder.template or encoder.tokenizer.chat_template),
        "template_sha256": hashlib.sha256((encoder.template or encoder.tokenizer.chat_template).encode()).hexdigest(),
    }
    counted = accounting["trained"] + truncated + accounting["validation"] + sum(dropped.values())
    if counted != accounting["rows_in"]:
        raise AssertionError(f"rows do not add up: {accounting}")
    return accounting


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(spec_file: Path) -> int:
    spec = json.loads(spec_file.read_text(encoding="utf-8"))
    directory = Path(spec["directory"])
    try:
        accounting = prepare(spec)
    except (Stop, UserError) as stop:
        found = [str(problem) for problem in stop.problems]
        (directory / "problems.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
        return 2
    # Written last: its existence means that the data are whole.
    temporary = directory / "accounting.json.tmp"
    temporary.write_text(json.dumps(accounting, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.replace(directory / "accounting.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
