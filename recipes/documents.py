"""Turns documents into token ids with loss on each, without a chat template: for continued pre-training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.encode import BadRow, Encoded, controls_of
from recipes.mask import Stops
from recipes.stops import TurnEnd
from recipes.tokenizer import load_tokenizer, unreadable, vocabulary_of

CONTROL = "control tokens such as {token} stand in the text"


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
        self.controls = controls_of(tokenizer)

    def encode(self, texts: Sequence[str], *, last_only: bool = False) -> list[Encoded | BadRow]:
        """Encode documents; one that cannot be trained on gives its BadRow in place."""
        if not texts:
            return []
        end = self.tokenizer.eos_token_id
        found: list[Encoded | BadRow] = []
        encoded = self.tokenizer(list(texts), return_attention_mask=False)["input_ids"]
        for said, ids in zip(texts, encoded, strict=True):
            whole = list(ids) if ids and ids[-1] == end else [*ids, end]
            text = unreadable(self.tokenizer, whole, self.vocabulary)
            control = self.controls.search(said) if self.controls else None
            notes = (CONTROL.format(token=control[0]),) if control else ()
            found.append(BadRow(text) if text else Encoded(whole, ((0, len(whole)),), notes))
        return found


def load_documents(spec: Mapping[str, Any]) -> Documents:
    """The encoder of a recipe's model for plain text; `spec` as `recipes.encode.load_encoder` takes it.

    Raises:
        BadRow: no tokenizer there, no fast one, or one without an end token.
    """
    return Documents(load_tokenizer(spec), vocabulary_of(spec))
