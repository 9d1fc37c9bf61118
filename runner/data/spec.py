"""What data preparation is told, and what it says of the rows: two JSON files, typed on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.schema import schema, with_defaults
from recipes.typed import from_json
from recipes.types import Data, Source


@dataclass(frozen=True, kw_only=True)
class PrepareSpec:
    """One preparation: the recipe's own sections, with the model where it lies.

    model: path, revision, trust_remote_code, tokenizer, add_tokens, chat_template, chat_template_kwargs.
    max_length: of a row, or of its prompt where rows stay text.
    needs_answer: the reward that looks at a prompt's answer, if one does.
    together: the field of the recipe that asks for rows one behind the other, if one does.
    scored, unseen: the suites of the recipe whose data lie here, with their places, and those whose data do not.
    """

    method: str
    model: Mapping[str, Any]
    data: Data
    max_length: int
    directory: Path
    needs_answer: str = ""
    together: str = ""
    scored: Mapping[str, str] = field(default_factory=dict)
    longbench_subsets: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Accounting:
    """The content of accounting.json: rows_in = trained + validation + the sum of dropped.

    trained counts the rows that were cut too, truncated_of_trained only those. tokens, supervised_tokens (those with
    loss) and thought_tokens (those with loss that are a reply's thinking, without its tags) are of an epoch, longest is
    the longest part of one, longest_of_validation that of the other rows. notes and unused_columns count rows; left_out
    names the files of splits that were not asked for. sequences is how many packs or blocks the training rows were put
    into, of sequence_length tokens, and sequence_tokens of these are the rows'; 0 where each row is trained by itself.
    mixture, where sources have weights, is how many rows of each are in an epoch, repeats among them. end_tokens is
    what `model/` has to stop at, where its base does not know.
    """

    rows_in: int
    trained: int
    truncated_of_trained: int
    validation: int
    truncated_of_validation: int
    dropped: Mapping[str, int]
    longest_dropped: int
    tokens: int
    supervised_tokens: int
    longest: int
    max_length: int
    sources: Mapping[str, int]
    files: Mapping[str, int]
    left_out: Mapping[str, tuple[str, ...]]
    unused_columns: Mapping[str, int]
    sha256: Mapping[str, str]
    notes: Mapping[str, int]
    model_notes: tuple[str, ...]
    end_tokens: Mapping[str, Any] | None
    template_sha256: str
    sequences: int = 0
    sequence_length: int = 0
    sequence_tokens: int = 0
    thought_tokens: int = 0
    longest_of_validation: int = 0
    mixture: Mapping[str, int] = field(default_factory=dict)

    @property
    def epoch_rows(self) -> int:
        """Training rows of an epoch: those of `mixture`, or each once."""
        return sum(self.mixture.values()) or self.trained


def source_of(path: Path | str | Sequence[str], **fields: Any) -> Source:
    """A source as a recipe's would be that gives no more than these fields."""
    given = str(path) if isinstance(path, Path) else path
    return from_json(Source, with_defaults({"path": given, **fields}, schema()["$defs"]["source"]))
