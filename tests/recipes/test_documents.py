"""Documents of plain text: loss on each token, an end behind each, and what is to be said of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from recipes.documents import Documents
from recipes.encode import Encoded
from tests.eval.fakes import CharacterTokenizer


class WithControls(CharacterTokenizer):
    added_tokens_decoder: Any = {  # noqa: RUF012
        1: SimpleNamespace(content="<end>", special=True), 2: SimpleNamespace(content="<tool>", special=False),
    }  # fmt: skip


def test_control_tokens_in_a_text_are_told() -> None:
    plain, control = Documents(WithControls()).encode(["a <tool> b", "a <end> b"])
    assert isinstance(plain, Encoded) and isinstance(control, Encoded)
    assert plain.notes == () and control.notes == ("control tokens such as <end> stand in the text",)
    assert control.labels == control.ids == [*map(ord, "a <end> b"), WithControls.eos_token_id]
