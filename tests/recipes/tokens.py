"""What a fast tokenizer of transformers gives, for tokenizers that tests make up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Span = tuple[int, int]


class Tokens(list[Span]):
    """Where each token of a text stands, asked as `tokenizers.Encoding` is."""

    @property
    def offsets(self) -> list[Span]:
        return list(self)

    def token_to_chars(self, number: int) -> Span:
        return self[number]


class Batch(dict[str, Any]):
    """The ids of each text, and where its tokens stand."""

    def __init__(self, ids: Sequence[list[int]], spans: Sequence[list[Span]]) -> None:
        super().__init__(input_ids=ids)
        self.encodings = [Tokens(each) for each in spans]
