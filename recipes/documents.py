"""Turns documents into token ids with loss on each, without a chat template: for continued pre-training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.encode import BadRow, Encoded
from recipes.mask import Stops
from recipes.stops import TurnEnd
from recipes.tokenizer import load_tokenizer, unreadable, vocabulary_of


class Documents:
    """A tokenizer of plain text.

    Each document begins as the tokenizer begins every text (Llama's and Gemma's with a token for that), and ends with
    its end token, so that documents in one block are told apart.
    """

    template = ""

    def __init__(self, tokenizer: Any, vocabulary: int | None = None) -> None:
        if tokenizer.eos_token_id is None:
            raise BadRow("model.path: its tokenizer has no end token (eos_token), which stands between documents")
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.end = TurnEnd(Stops())

    def encode(self, texts: Sequence[str], *, last_only: bool = False) -> list[Encoded | BadRow]:
        """Encode documents; one that cannot be trained on gives its BadRow in place."""
        if not texts:
            return []
        end = self.tokenizer.eos_token_id
        found: list[Encoded | BadRow] = []
        for ids in self.tokenizer(list(texts), return_attention_mask=False)["input_ids"]:
            whole = list(ids) if ids and ids[-1] == end else [*ids, end]
            text = unreadable(self.tokenizer, whole, self.vocabulary)
            found.append(BadRow(text) if text else Encoded(whole, ((0, len(whole)),)))
        return found


def load_documents(spec: Mapping[str, Any]) -> Documents:
    """The encoder of a recipe's model for plain text; `spec` as `recipes.encode.load_encoder` takes it.

    Raises:
        BadRow: no tokenizer there, no fast one, or one without an end token.
    """
    return Documents(load_tokenizer(spec), vocabulary_of(spec))
