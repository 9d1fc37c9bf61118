"""A tokenizer of one id a character and an engine that answers by rule, so that suites are tested without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from eval.encode import Text
from eval.engines import Batch as Answers
from eval.engines.requests import Generate, Score, Value
from recipes.encode import Encoder, Message
from tests.recipes.tokens import Batch


class CharacterTokenizer:
    """One token a character."""

    eos_token_id = 3

    def __call__(self, text: Any, add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
        if isinstance(text, str):
            return {"input_ids": [ord(c) for c in text]}
        return Batch([[ord(c) for c in t] for t in text], [[(n, n + 1) for n in range(len(t))] for t in text])

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(map(chr, ids))


class PlainEncoder(Encoder):
    """Writes `[u]question|[a]answer|` without a template engine."""

    def render(self, messages: list[Message], *, reply_next: bool = False) -> str:
        text = "".join(f"[{m['role'][0]}]{m['content']}|" for m in messages)
        return text + "[a]" * reply_next


def text(template: bool = True) -> Text:
    tokenizer = CharacterTokenizer()
    return Text(tokenizer, PlainEncoder(tokenizer, None, {}) if template else None, "no chat template")


class RuleEngine:
    """Scores a request by its scored characters, and answers a prompt with a fixed reply."""

    identity: dict[str, Any] = {"engine": "rule"}  # noqa: RUF012
    max_positions = 1000

    def __init__(self, reply: str = "reply", batch: int = 2) -> None:
        self.reply, self.batch, self.asked = reply, batch, 0

    def score(self, requests: Sequence[Score]) -> Iterator[Answers]:
        for n, request in enumerate(requests):
            self.asked += 1
            yield [(n, {"nll": sum(label for label in request.labels if label > 0) / 100, "tokens": request.tokens})]

    def generate(self, requests: Sequence[Generate]) -> Iterator[Answers]:
        for n in range(len(requests)):
            self.asked += 1
            yield [(n, {"text": self.reply, "tokens": len(self.reply), "finished": True})]

    def value(self, requests: Sequence[Value]) -> Iterator[Answers]:
        for n, request in enumerate(requests):
            self.asked += 1
            yield [(n, {"value": len(request.ids) / 10})]
