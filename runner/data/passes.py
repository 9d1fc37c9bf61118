"""One pass over the sources of a split: rows read, checked, encoded and fitted; what is not kept is counted."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any, NamedTuple

from recipes.documents import Documents
from recipes.encode import BadRow, Encoded, Encoder, Message
from recipes.methods import CONVERSATIONS, DOCUMENTS, FEEDBACK, METHODS, PROMPTS
from recipes.types import Source
from runner.data import workers
from runner.data.contamination import Scored
from runner.data.formats import Raw, convert, detect
from runner.data.honoured import Unwanted
from runner.data.middle import without_middle
from runner.data.near import Near
from runner.data.notes import Complaints, kind_of, printable
from runner.data.read import files_of, read
from runner.data.spec import PrepareSpec
from runner.data.thinking import DROPPED, without_thinking

CHUNK = 256
CONTAMINATED = "contamination: holds a question or reference of the suite {suite}, by which the recipe is scored"
DUPLICATE = "duplicate of an earlier row"
NEARLY = "nearly a duplicate of an earlier row"
FROM_PAIRS = "half of a preference pair: the chosen reply is good, the rejected one bad"
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


class Waiting(NamedTuple):
    """A canonical row on its way to the encoder.

    place: file and line. done: what was done to it. source: the number of its source. number: its own, among all.
    """

    place: str
    row: Raw
    done: list[str]
    source: int
    number: int


def digest(row: Raw) -> bytes:
    """16 bytes that tell whether two canonical rows say the same."""
    return hashlib.blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=16).digest()


class Preparation:
    """One pass over the sources of one split group, with its counts."""

    def __init__(self, spec: PrepareSpec, encoder: Encoder | Documents, scored: Scored | None = None) -> None:
        self.method, self.kind = spec.method, METHODS[spec.method].rows
        self.data, self.max_length, self.needs_answer = spec.data, spec.max_length, spec.needs_answer
        self.encoder, self.scored = encoder, scored
        self.last_only = self.kind is not CONVERSATIONS or spec.data.train_on == "last_turn"
        self.dropped: Counter[str] = Counter()
        self.rows_in: Counter[str] = Counter()
        self.problems = Complaints()
        self.notes: Counter[str] = Counter()
        self.files: Counter[str] = Counter()  # rows of each local file
        self.left_out: dict[str, list[str]] = {}  # files of splits that were not asked for
        self.unused: Counter[str] = Counter()  # rows in which a column that no format reads says something
        self.longest_dropped = 0
        self._before: list[Raw] = []  # KTO: the last rows before the chunk, the newest first
        self.seen: set[bytes] = set()  # a digest a row, where duplicates are looked for
        self.near = Near(spec.data.dedup_threshold) if spec.data.dedup == "near" else None
        self.formats: dict[str, str] = {}  # of each source, told from its first row where it does not say
        self.place, self.own_notes = "", list[str]()  # of the row that `rows` gave last
        self.source = self.number = 0  # and the number of its source, and its own among all that were read whole
        self._reported = time.monotonic()

    def rows(self, sources: Iterable[Source]) -> Iterator[tuple[Raw, list[Encoded], bool]]:
        """Each kept row: canonical, encoded (one conversation, or two for pairs), and whether it was truncated."""
        for (chunk, conversations), results in workers.encoded(self._asked(sources), self._encode):
            yield from self._kept(chunk, conversations, results)
        if self.problems.rows:
            raise Stop(*self.problems.lines())

    def rows_around(self, sources: Iterable[Source], number: int) -> Iterator[tuple[Raw, list[Encoded], bool]]:
        """The kept rows that are encoded together with the row of that number; none before them is encoded."""
        for chunk in self._chunks(sources):
            conversations = self._of_chunk(chunk)
            if number <= chunk[-1].number:
                yield from self._kept(chunk, conversations, self._encode(list(chain.from_iterable(conversations))))
                return

    def _asked(self, sources: Iterable[Source]) -> Iterator[tuple[tuple[list[Waiting], list[list[Any]]], list[Any]]]:
        for chunk in self._chunks(sources):
            conversations = self._of_chunk(chunk)
            yield (chunk, conversations), list(chain.from_iterable(conversations))

    def _encode(self, conversations: Sequence[Any]) -> list[Encoded | BadRow]:
        return self.encoder.encode(conversations, last_only=self.last_only)

    def _of_chunk(self, chunk: list[Waiting]) -> list[list[Any]]:
        """What is encoded of each row of a chunk; the next chunk may look back on this one."""
        found = [self._conversations(n, chunk) for n in range(len(chunk))]
        if self.kind is FEEDBACK:
            self._before = [waiting.row for waiting in chunk[:-3:-1]]
        return found

    def _chunks(self, sources: Iterable[Source]) -> Iterator[list[Waiting]]:
        chunk: list[Waiting] = []
        numbers = count()
        for place_of_source, source in enumerate(sources):
            for place, row, done in self._canonical(source):
                chunk.append(Waiting(place, row, done, place_of_source, next(numbers)))
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    def _canonical(self, source: Source) -> Iterator[tuple[str, Raw, list[str]]]:
        """Each row with its place before it, and what was done to it behind it."""
        format_name = source.format
        files = files_of(source)
        for chosen in filter(None, files):
            self.files.update({str(file): 0 for file in chosen.files})
            for split, others in chosen.left_out.items():
                self.left_out[split] = sorted({*self.left_out.get(split, []), *map(str, others)})
        named = any(files)  # rows of a hub's data set alone have no file
        for raw in read(source, files, seed=self.data.seed):
            self.rows_in[source.name] += 1
            if named:
                self.files[raw.file] += 1
            self._report()
            if raw.beside:
                self.unused.update(map(printable, raw.beside))
            try:
                if raw.problem:
                    raise BadRow(raw.problem)
                if format_name == "auto":
                    format_name = detect(raw.value, self.method, source.columns)
                self.formats[source.name] = format_name
                row, unused, done = convert(raw.value, format_name, source, self.data.irregular)
                if self.kind is PROMPTS and self.needs_answer and not row["answer"].strip():
                    raise BadRow(f"no answer, which the reward {self.needs_answer} looks at")
                if unused:
                    self.unused.update(map(printable, unused))
                row, done = self._wanted(row, done)
            except Unwanted as error:
                self.dropped[kind_of(str(error))] += 1
                continue
            except BadRow as error:
                self._bad(raw.place, str(error))
                continue
            if self.kind is FEEDBACK and "chosen" in row:  # a pair is two examples
                self.rows_in[source.name] += 1
                for key in ("chosen", "rejected"):
                    one = {"prompt": row["prompt"], "completion": row[key], "label": key == "chosen"}
                    yield raw.place, one, [*done, FROM_PAIRS]
                continue
            yield raw.place, row, done

    def _wanted(self, row: Raw, done: list[str]) -> tuple[Raw, list[str]]:
        """The row as the recipe wants it, and what was done to it.

        Raises:
            Unwanted: the recipe leaves it out.
        """
        if self.data.thinking == "drop":
            row, some = without_thinking(row)
            done = [*done, *[DROPPED] * some]
        if self.data.dedup:
            own = digest(row)
            if own in self.seen:
                raise Unwanted(DUPLICATE)
            self.seen.add(own)
        if self.scored and (suite := self.scored.suite_in(row)):
            told = CONTAMINATED.format(suite=suite)
            if self.data.contamination == "drop":
                raise Unwanted(told)
            done = [*done, told]
        if self.near and self.near.seen(row):
            raise Unwanted(NEARLY)
        return row, done

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

    def _kept(
        self, chunk: list[Waiting], conversations: list[list[Any]], results: list[Encoded | BadRow]
    ) -> Iterator[tuple[Raw, list[Encoded], bool]]:
        encoded = iter(results)
        for (place, row, done, source, number), parts in zip(chunk, conversations, strict=True):
            own = [next(encoded) for _ in parts]
            bad = next((r for r in own if isinstance(r, BadRow)), None)
            if bad is not None:
                self._bad(place, str(bad))
                continue
            encodings = [r for r in own if isinstance(r, Encoded)]
            noted = list(dict.fromkeys(note for one in encodings for note in one.notes))
            if noted and self.data.on_note == "error":
                self._bad(place, "; ".join(noted))
                continue
            row, whole, cut = self._shortened(row, encodings)
            kept = self._fit(place, whole)
            if kept is not None:
                self.place, self.source, self.number, self.own_notes = place, source, number, [*done, *noted]
                if self.own_notes:
                    self.notes.update(self.own_notes)
                yield row, kept[0], cut or kept[1]

    def conversations(self, row: Raw) -> list[Any]:
        """What is encoded of a canonical row: its conversations, or its text."""
        if self.kind is DOCUMENTS:
            return [row["text"]]
        if self.kind is CONVERSATIONS:
            return [row["messages"]]
        if self.kind is PROMPTS:
            return [row["prompt"]]
        if self.kind is FEEDBACK:
            return [row["prompt"] + row["completion"]]
        return [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]]

    def _conversations(self, n: int, chunk: list[Waiting]) -> list[Any]:
        row = chunk[n].row
        found = self.conversations(row)
        return [*found, row["prompt"] + self._other_reply(n, chunk)] if self.kind is FEEDBACK else found

    def _other_reply(self, n: int, chunk: list[Waiting]) -> list[Message]:
        """KTO estimates its KL term on mismatched pairs: this prompt with the reply of the row before (as TRL).

        That is the nearest row before it of another prompt (a pair's two rows have one); before the first stands the
        last of its chunk.
        """
        rows = [waiting.row for waiting in chunk]
        others = chain(reversed(rows[:n]), self._before, reversed(rows[n + 1 :]))
        nearest = next(others, None)
        if nearest is None:
            raise Stop(f"{self.method} needs at least 2 rows: its KL term pairs each prompt with another row's reply")
        mine = rows[n]["prompt"]
        other = next((row for row in chain([nearest], others) if row["prompt"] != mine), nearest)
        reply: list[Message] = other["completion"]
        return reply

    def _shortened(self, row: Raw, parts: list[Encoded]) -> tuple[Raw, list[Encoded], bool]:
        """The row without the middle of its longest user turn where it is too long and `data.overlong` is middle."""
        if self.data.overlong != "middle" or len(parts[0].ids) <= self.max_length:
            return row, parts, False
        found = without_middle(row["messages"], parts[0], self.max_length, self.encoder, self.last_only)
        return (row, parts, False) if found is None else ({"messages": found[0]}, [found[1]], True)

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
