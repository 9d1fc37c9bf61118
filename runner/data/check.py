"""A check of rows: every problem with its line, duplicates, languages, lengths; nothing is written.

Without a tokenizer rows are read and converted only, which any Python with these packages can do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from recipes.documents import Documents
from recipes.encode import BadRow, Encoded, Encoder
from recipes.types import Source
from runner.data.contamination import Scored, not_compared
from runner.data.formats import Raw, guess
from runner.data.inspected import Checked
from runner.data.languages import language
from runner.data.notes import printable
from runner.data.passes import CONTAMINATED, MALFORMED, Preparation, Stop, Waiting, digest
from runner.data.read import BadData, read
from runner.data.spec import PrepareSpec

ANY_LENGTH = 1 << 40  # tokens
IS_SCORED = CONTAMINATED.partition("{")[0]


class _Check(Preparation):
    """A preparation that goes on behind every bad row, cuts nothing for its length, and may have no tokenizer."""

    def __init__(
        self, spec: PrepareSpec, encoder: Encoder | Documents | None, shown: int, scored: Scored | None
    ) -> None:
        data = replace(spec.data, on_bad_row="error", overlong="drop")
        super().__init__(replace(spec, data=data, max_length=ANY_LENGTH), encoder, scored)  # type: ignore[arg-type]
        self.shown, self.bad, self.told = shown, 0, list[str]()

    def _bad(self, place: str, text: str, reason: str = MALFORMED) -> None:
        self.bad += 1
        if self.bad <= self.shown:
            self.told.append(printable(f"{place}: {text}"))

    def _report(self) -> None:
        """Stdout is the user's here."""

    def _of_chunk(self, chunk: list[Waiting]) -> list[list[Any]]:
        return super()._of_chunk(chunk) if self.encoder else []

    def _encode(self, conversations: Sequence[Any]) -> list[Encoded | BadRow]:
        return super()._encode(conversations) if self.encoder else []

    def _kept(
        self, chunk: list[Waiting], conversations: list[list[Any]], results: list[Encoded | BadRow]
    ) -> Iterator[tuple[Raw, list[Encoded], bool]]:
        if self.encoder is not None:
            yield from super()._kept(chunk, conversations, results)
            return
        for waiting in chunk:
            self.place, self.own_notes = waiting.place, waiting.done
            self.notes.update(waiting.done)
            yield waiting.row, [], False

    def every(self) -> Iterator[tuple[Raw, list[Encoded], bool]]:
        yield from self.rows(self.data.train)
        self.scored = None  # held-out rows are not trained on
        yield from self.rows(self.data.validation.sources)


def method_of(source: Source) -> str:
    """The method that rows like the first readable one are for; `sft` where none is.

    Raises:
        BadData: the file cannot be read so far.
    """
    for raw in read(source):
        if not raw.problem and (found := guess(raw.value)):
            return found[0]
    return "sft"


def check(spec: PrepareSpec, encoder: Encoder | Documents | None, shown: int, scored: Scored | None = None) -> Checked:
    """Read every row, held-out ones too; the first `shown` problems and repeated rows are told one by one."""
    train = _Check(spec, encoder, shown, scored)
    usable = duplicates = tokens = 0
    broken: list[str] = []
    repeats: list[str] = []
    contaminated: list[str] = []
    first: dict[bytes, int] = {}  # row number by digest: no text is kept
    lengths, languages = Counter[str](), Counter[str]()
    try:
        for row, parts, _ in train.every():
            usable += 1
            if len(contaminated) < shown:
                contaminated += (printable(f"{train.place}: {n}") for n in train.own_notes if n.startswith(IS_SCORED))
            earlier = first.setdefault(digest(row), usable)
            if earlier != usable:
                duplicates += 1
                if duplicates <= shown:
                    repeats.append(printable(f"{train.place}: the same as row {earlier} of the usable ones"))
            languages.update(map(language, replies(row)))
            if parts:
                length = max(len(part.ids) for part in parts)
                lengths[str(length)] += 1
                tokens += length
    except BadData as error:
        broken.append(printable(str(error)))
    except Stop as stop:
        broken.extend(stop.problems)
    return Checked(
        method=spec.method,
        formats=train.formats,
        files=train.files,
        rows=train.rows_in.total(),
        usable=usable,
        bad=train.bad,
        dropped=train.dropped,
        problems=tuple(train.told),
        broken=tuple(broken),
        duplicates=duplicates,
        repeats=tuple(repeats),
        languages=dict(languages.most_common()),
        unused_columns=train.unused,
        notes=train.notes,
        lengths=lengths,
        tokens=tokens,
        contaminated=tuple(contaminated),
        unseen=tuple(not_compared(spec.unseen)),
        left_out={split: tuple(files) for split, files in train.left_out.items()},
    )


def replies(row: Raw) -> list[str]:
    """The texts that a model would learn to write of a canonical row."""
    if "text" in row:
        return [row["text"]]
    if "answer" in row:
        return [row["answer"]]
    said: list[Any] = row.get("messages") or row.get("completion") or row["chosen"]
    return [turn["content"] for turn in said if turn["role"] == "assistant" and turn["content"]]
