"""A chat template may be anybody's: every fault of it is a sentence, and it always comes to an end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from recipes import template
from recipes.encode import DATED, Encoded, Encoder
from recipes.errors import UserError
from recipes.template import BadRow, Template, shaped
from tests.recipes.tokens import Batch

Renders = Callable[[list[dict[str, Any]]], str]


class Tokenizer:
    """Renders by a function, and makes one id of each character."""

    def __init__(self, render: Renders) -> None:
        self.render = render

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
        return self.render(messages)

    def __call__(self, texts: list[str], **_: Any) -> Batch:
        spans = [[(n, n + 1) for n in range(len(text))] for text in texts]
        return Batch([[ord(c) for c in text] for text in texts], spans)

    def convert_ids_to_tokens(self, number: int) -> str:
        return chr(number)


def turns(messages: list[dict[str, Any]]) -> str:
    return "".join(f"<{m['role']}>{m['content']}</s>" for m in messages)


CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def recursion(_: Any) -> str:
    return recursion(_)


@pytest.mark.parametrize(
    "render,name",
    [
        (lambda _: 1 + "a", "TypeError: unsupported operand"),  # type: ignore[operator]
        (lambda _: str(1 // 0), "ZeroDivisionError: "),
        (lambda _: str(10.0**400), "OverflowError: "),
        (lambda _: "a" * 10**18, "MemoryError"),
        (lambda m: m[0]["nothing"], "KeyError: 'nothing'"),
        (recursion, "RecursionError: maximum recursion depth"),
    ],
)
def test_any_exception_of_a_template_is_a_sentence(render: Renders, name: str) -> None:
    with pytest.raises(BadRow, match=f"^the chat template fails: {name}"):
        Template(Tokenizer(render), None, {}).render(CHAT)


def test_a_variable_that_the_template_does_not_name_is_told() -> None:
    text = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{{ messages }}"
    given = {"enable_thinking": False, "enable_thinkng": False, "colour": 1}
    wrong, far = Template(Tokenizer(turns), text, given).unread
    assert wrong == "enable_thinkng: the chat template reads no such variable; did you mean 'enable_thinking'?"
    assert far == "colour: the chat template reads no such variable"


@pytest.mark.parametrize("loop", [lambda _: [None for _ in iter(int, 1)], lambda _: str(9 ** (9**9))])
def test_a_template_without_an_end_is_ended(loop: Renders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "LIMIT_S", 0.2)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"endless\.jinja: it came to no end within 0\.2 s"):
        Template(Tokenizer(loop), None, {}, name="endless.jinja").render(CHAT)
    assert time.monotonic() - started < 5


def test_an_except_of_the_template_cannot_hold_the_limit_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def render(_: Any) -> str:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)

    monkeypatch.setattr(template, "LIMIT_S", 0.1)
    with pytest.raises(UserError):
        Template(Tokenizer(render), None, {}).render(CHAT)


def of_parts(messages: list[dict[str, Any]]) -> str:
    """A template that looks for parts: of plain text it shows nothing."""
    texts = ["".join(p["text"] for p in m["content"] if isinstance(p, dict)) for m in messages]
    return "".join(f"<{m['role']}>{text}</s>" for m, text in zip(messages, texts, strict=True))


def mixed(messages: list[dict[str, Any]]) -> str:
    """Parts of the user, text of the assistant."""
    return "".join(m["content"] + "|" if m["role"] == "assistant" else of_parts([m]) for m in messages)


@pytest.mark.parametrize("render,parts", [(turns, ()), (of_parts, ("user", "assistant")), (mixed, ("user", "system"))])
def test_content_is_given_in_the_shape_that_the_template_wants(render: Renders, parts: tuple[str, ...]) -> None:
    found = shaped(Template(Tokenizer(render), None, {}))
    assert set(parts) <= found.parts and bool(parts) == bool(found.parts)
    assert "hi" in found.render(CHAT) and "hello" in found.render(CHAT)


def test_a_template_that_shows_no_words_is_refused() -> None:
    with pytest.raises(BadRow, match=r"x\.jinja: on a user's turn.* leaves out the text of user and assistant"):
        shaped(Template(Tokenizer(lambda _: "x"), None, {}, name="x.jinja"))


def encode(*contents: str, vocabulary: int | None = None) -> Encoded | BadRow:
    messages = [{**message, "content": text} for message, text in zip(CHAT, contents, strict=True)]
    return Encoder(Tokenizer(turns), None, {}, vocabulary=vocabulary).encode([messages], last_only=False)[0]


def test_a_token_without_a_row_in_the_embedding_is_refused() -> None:
    assert isinstance(encode("hi", "ho", vocabulary=128), Encoded)
    assert "'é' has the id 233, and the model's embedding has 128 rows" in str(encode("hi", "é", vocabulary=128))


def test_half_a_character_is_refused() -> None:
    assert r"half of a character (the lone surrogate '\ud83d')" in str(encode("hi", "so good \ud83d"))


class Dated(Tokenizer):
    """As transformers: `strftime_now` is the clock, unless it is given."""

    def apply_chat_template(self, messages: list[dict[str, Any]], **given: Any) -> str:
        clock = given.get("strftime_now", lambda form: time.strftime(form))
        day = given.get("date_string") or clock("%d %b %Y")
        return f"<system>{day}</s>" + self.render(messages)


@pytest.mark.parametrize(
    ("tokenizer", "variables", "told"),
    [
        (Dated(turns), {}, True),
        (Dated(turns), {"date_string": "26 Jul 2024"}, False),
        (Tokenizer(turns), {}, False),
    ],
)
def test_a_template_that_writes_the_date_is_told(tokenizer: Tokenizer, variables: dict[str, Any], told: bool) -> None:
    (found,) = Encoder(tokenizer, None, variables).encode([CHAT], last_only=False)  # type: ignore[list-item]
    assert isinstance(found, Encoded) and (DATED in found.notes) == told
