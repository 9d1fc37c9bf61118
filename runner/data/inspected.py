"""What `recipe data` asks of the backend's environment, and what it hears: JSON files, typed on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.data.spec import PrepareSpec


@dataclass(frozen=True, kw_only=True)
class InspectSpec:
    """One question about the rows of a preparation; `row` (from 1) is for a preview, 0 asks for a check."""

    prepare: PrepareSpec
    row: int
    shown: int  # problems and duplicates told one by one
    target: Path
    diff: bool = False  # of a preview: whether its replies are asked for by the ids that they are trained behind
    told_by_rows: bool = False  # the method is the one that the rows are for


@dataclass(frozen=True, kw_only=True)
class Span:
    """Neighbouring tokens that all have loss, or all have none, as text."""

    text: str
    loss: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """One conversation or document: ids and loss are equally long; `pieces` is each token's own text."""

    name: str
    ids: tuple[int, ...]
    loss: tuple[bool, ...]
    pieces: tuple[str, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The ids before a reply with loss, as it is trained and as a model would be asked for it, up to where they differ.

    turn: the reply's, from 1. at: the first place at which they differ; both lengths where they are equal. The texts
    are of the next tokens. problem: why nothing can be asked there.
    """

    name: str
    turn: int
    trained: tuple[int, ...]
    asked: tuple[int, ...]
    at: int
    trained_text: str = ""
    asked_text: str = ""
    problem: str = ""

    @property
    def equal(self) -> bool:
        return not self.problem and self.trained == self.asked


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A training row as it is trained on; `problems` are those of the rows that were read to find it."""

    row: int
    place: str
    truncated: bool
    parts: tuple[Part, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found.

    usable counts the rows that could be trained on, whatever their length; rows = usable + bad + the sum of dropped.
    lengths counts rows by tokens of their longest conversation; empty without a tokenizer. broken says why reading
    ended before the end. contaminated are training rows that hold what the recipe is scored by, unseen says with what
    none was compared. left_out names the files of splits that were not asked for.
    """

    method: str
    formats: Mapping[str, str]
    files: Mapping[str, int]
    rows: int
    usable: int
    bad: int
    dropped: Mapping[str, int]
    problems: tuple[str, ...]
    broken: tuple[str, ...]
    duplicates: int
    repeats: tuple[str, ...]
    languages: Mapping[str, int]
    unused_columns: Mapping[str, int]
    notes: Mapping[str, int]
    lengths: Mapping[str, int]
    tokens: int
    contaminated: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
