"""The ids before a reply in training beside those that a model is asked by, with one id a character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from recipes.encode import BadRow, Encoded, Encoder
from runner.data.asked import asked
from runner.data.inspected import Asked, Preview
from runner.training.views import preview_text
from tests.eval.fakes import CharacterTokenizer, PlainEncoder


class Forgetful(PlainEncoder):
    """Leaves the thinking out of all replies but the last, as Qwen3's template does."""

    def render(self, messages: Sequence[Any], *, reply_next: bool = False) -> str:
        last = max((n for n, m in enumerate(messages) if m["role"] == "user"), default=-1)
        told = [
            {**m, "content": m["content"].rpartition("</think>")[2] if n < last else m["content"]}
            for n, m in enumerate(messages)
        ]
        return super().render(told, reply_next=reply_next)


class Closed(PlainEncoder):
    """A template that refuses to be asked, and one that asks otherwise than it trains."""

    def render(self, messages: Sequence[Any], *, reply_next: bool = False) -> str:
        if reply_next and messages[-1]["content"] == "never":
            raise BadRow("no")
        text = super().render(list(messages), reply_next=reply_next)
        return text.replace("[u]", "[U]") if reply_next else text


def chat(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def compared(encoder: Encoder, messages: list[dict[str, Any]], last_only: bool = False, cut: int = 999) -> list[Asked]:
    (part,) = encoder.encode([messages], last_only=last_only)
    assert isinstance(part, Encoded)
    return list(asked("", part.cut(cut), messages, encoder, last_only=last_only))


def encoder(kind: type[Encoder]) -> Encoder:
    return kind(CharacterTokenizer(), None, {})


def shown(*found: Asked) -> str:
    preview = Preview(row=1, place="f:1", truncated=False, parts=(), notes=(), problems=(), asked=found)
    return preview_text(preview, colour=False, ids=False)


def test_what_is_asked_is_what_is_trained() -> None:
    found = compared(encoder(PlainEncoder), chat("one?", "1", "two?", "2"))
    assert [(one.turn, one.equal, "".join(map(chr, one.asked))) for one in found] == [
        (2, True, "[u]one?|[a]"), (4, True, "[u]one?|[a]1|[u]two?|[a]"),
    ]  # fmt: skip
    assert [one.turn for one in compared(encoder(PlainEncoder), chat("one?", "1", "two?", "2"), last_only=True)] == [4]
    messages = chat("one?", "1", "two?", "2")
    messages[1]["weight"] = 0
    assert [one.turn for one in compared(encoder(PlainEncoder), messages)] == [4]
    assert [one.turn for one in compared(encoder(PlainEncoder), chat("one?", "1", "two?", "2"), cut=14)] == [2]


def test_thinking_that_a_template_forgets_is_no_difference_to_what_is_asked() -> None:
    found = compared(encoder(Forgetful), chat("one?", "<think>a</think>1", "two?", "<think>b</think>2"))
    assert [one.equal for one in found] == [True, True]


def test_the_first_difference_is_shown() -> None:
    (one, other) = compared(encoder(Closed), chat("one?", "1", "two?", "2"))
    assert not one.equal and one.at == 1 and one.trained_text == "u]one?|[" and one.asked_text == "U]one?|["
    text = shown(one, other)
    assert "turn 2: before its reply, trained (11 tokens) and asked (11) differ from token 2 on:" in text
    assert "  trained 117 93 111 110 101 63 124 91  'u]one?|['" in text
    assert "  asked   85 93 111 110 101 63 124 91  'U]one?|['" in text


def test_a_template_that_refuses_to_be_asked_is_told() -> None:
    (one,) = compared(encoder(Closed), chat("never", "1"))
    assert one.problem == "no" and not one.equal
    assert "turn 2: before its reply, a model cannot be asked: no" in shown(one)


@pytest.mark.parametrize("longer", ["trained", "asked"])
def test_one_that_goes_on_differs_behind_the_other(longer: str) -> None:
    ids = {"trained": (1, 2), "asked": (1, 2), longer: (1, 2, 3)}
    one = Asked(name="chosen", turn=2, at=2, trained=ids["trained"], asked=ids["asked"])
    text = shown(one)
    assert "turn 2 of chosen: before its reply, " in text and "differ from token 3 on" in text
    assert text.count("nothing more") == 1
