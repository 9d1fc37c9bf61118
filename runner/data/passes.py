"""One pass over the sources of a split: rows read, checked, encoded and fitted; what is not kept is counted."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from recipes.documents import Documents
from recipes.encode import BadRow, Encoded, Encoder, Message
from recipes.methods import CONVERSATIONS, DOCUMENTS, FEEDBACK, METHODS, PROMPTS
from recipes.types import Source
from runner.data.formats import Raw, convert, detect
from runner.data.irregular import Irregular
from runner.data.notes import Complaints, kind_of, printable
from runner.data.read import files_of, read
from runner.data.spec import PrepareSpec

CHUNK = 256
MAX_REASONS = 50  # of malformed rows, told apart in the accounting
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

    def __init__(self, spec: PrepareSpec, encoder: Encoder | Documents) -> None:
        self.method, self.kind = spec.method, METHODS[spec.method].rows
        self.data, self.max_length = spec.data, spec.max_length
        self.encoder = encoder
        self.dropped: Counter[str] = Counter()
        self.rows_in: Counter[str] = Counter()
        self.problems = Complaints()
        self.notes: Counter[str] = Counter()
        self.files: Counter[str] = Counter()  # rows of each local file
        self.left_out: dict[str, list[str]] = {}  # files of splits that were not asked for
        self.unused: Counter[str] = Counter()  # rows in which a column that no format reads says something
        self.longest_dropped = 0
        self.formats: dict[str, str] = {}  # of each source, told from its first row where it does not say
        self.place, self.own_notes = "", list[str]()  # of the row that `rows` gave last
        self._previous: list[Message] | None = None  # KTO: the reply before the chunk
        self._reported = time.monotonic()

    def rows(self, sources: Iterable[Source]) -> Iterator[tuple[Raw, list[Encoded], bool]]:
        """Each kept row: canonical, encoded (one conversation, or two for pairs), and whether it was truncated."""
        chunk: list[tuple[str, Raw, list[str]]] = []
        for row in chain.from_iterable(self._canonical(source) for source in sources):
            chunk.append(row)
            if len(chunk) == CHUNK:
                yield from self._encode(chunk)
                chunk = []
        yield from self._encode(chunk)
        if self.problems.rows:
            raise Stop(*self.problems.lines())

    def _canonical(self, source: Source) -> Iterator[tuple[str, Raw, list[str]]]:
        """Each row with its place before it, and what was done to it behind it."""
        format_name = source.format
        files = files_of(source)
        if files:
            self.files.update({str(file): 0 for file in files.files})
            for split, others in files.left_out.items():
                self.left_out[split] = sorted({*self.left_out.get(split, []), *map(str, others)})
        for raw in read(source, files):
            self.rows_in[source.path] += 1
            self.files.update([raw.file] if files else [])
            self._report()
            self.unused.update(map(printable, raw.beside))
            try:
                if raw.problem:
                    raise BadRow(raw.problem)
                if format_name == "auto":
                    format_name = detect(raw.value, self.method, source.columns)
                self.formats[source.path] = format_name
                row, unused, done = convert(raw.value, format_name, source, self.data.irregular)
            except Irregular as error:
                self.dropped[f"irregular: {kind_of(str(error))}"] += 1
                continue
            except BadRow as error:
                self._bad(raw.place, str(error))
                continue
            self.unused.update(map(printable, unused))
            yield raw.place, row, done

    def _bad(self, place: str, text: str, reason: str = MALFORMED) -> None:
        if self.data.on_bad_row == "drop" and reason == MALFORMED:
            kind = f"{MALFORMED}: {kind_of(text).partition(';')[0][:80]}"
            self.dropped[kind if kind in self.dropped or len(self.dropped) < MAX_REASONS else MALFORMED] += 1
            return
        self.problems.add(place, text)
        if self.problems.full:
            raise Stop(*self.problems.lines())

    def _report(self) -> None:
        if time.monotonic() - self._reported > 1:
            self._reported = time.monotonic()
            print(json.dumps({"rows": self.rows_in.total()}), flush=True)

    def _encode(self, chunk: list[tuple[str, Raw, list[str]]]) -> Iterator[tuple[Raw, list[Encoded], bool]]:
        if not chunk:
            return
        conversations = [self._conversations(row, n, chunk) for n, (_, row, _) in enumerate(chunk)]
        last_only = self.kind is not CONVERSATIONS or self.data.train_on == "last_turn"
        encoded = iter(self.encoder.encode(list(chain.from_iterable(conversations)), last_only=last_only))
        for (place, row, done), parts in zip(chunk, conversations, strict=True):
            results = [next(encoded) for _ in parts]
            bad = next((r for r in results if isinstance(r, BadRow)), None)
            if bad is not None:
                self._bad(place, str(bad))
                continue
            noted = list(dict.fromkeys(note for r in results if isinstance(r, Encoded) for note in r.notes))
            if noted and self.data.on_note == "error":
                self._bad(place, "; ".join(noted))
                continue
            kept = self._fit(place, [r for r in results if isinstance(r, Encoded)])
            if kept is not None:
                self.place, self.own_notes = place, [*done, *noted]
                self.notes.update(self.own_notes)
                yield row, kept[0], kept[1]
        if self.kind is FEEDBACK:
            self._previous = chunk[-1][1]["completion"]

    def _conversations(self, row: Raw, n: int, chunk: list[Any]) -> list[Any]:
        if self.kind is DOCUMENTS:
            return [row["text"]]
        if self.kind is CONVERSATIONS:
            return [row["messages"]]
        if self.kind is PROMPTS:
            return [row["prompt"]]
        if self.kind is FEEDBACK:
            return [row["prompt"] + row["completion"], row["prompt"] + self._other_reply(n, chunk)]
        return [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]]

    def _other_reply(self, n: int, chunk: list[Any]) -> list[Message]:
        """KTO estimates its KL term on mismatched pairs: this prompt with the reply of the row before (as TRL)."""
        if n == 0 and self._previous is not None:
            return self._previous
        other: list[Message] = chunk[n - 1][1]["completion"]
        if len(chunk) == 1 and self._previous is None:
            raise Stop(f"{self.method} needs at least 2 rows: its KL term pairs each prompt with another row's reply")
        return other

    def _fit(self, place: str, parts: list[Encoded]) -> tuple[list[Encoded], bool] | None:
        """The parts within max_length and whether one was cut; None where the row is dropped."""
        if self.kind is DOCUMENTS:
            return parts, False  # cut into blocks later
        if self.kind is not PROMPTS and any(part.supervised == 0 for part in parts):
            self.dropped[NOTHING] += 1
            return None
        longest = max(len(part.ids) for part in parts)
        if longest <= self.max_length:
            return parts, False
        if self.data.overlong == "error":
            self._bad(place, f"{longest} tokens, max_length is {self.max_length}", TOO_LONG)
            return None
        truncate = self.data.overlong == "truncate" and self.kind is not PROMPTS
        if not truncate or any(part.prompt_length >= self.max_length for part in parts):
            self.dropped[PROMPT_TOO_LONG if truncate else TOO_LONG] += 1
            self.longest_dropped = max(self.longest_dropped, longest)
            return None
        return [part.cut(self.max_length) for part in parts], True
