"""The tokenizer as training used it: the same ids, the same loss mask, the same chat template."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from eval.hashes import json_hash, text_hash
from eval.spec import Spec
from recipes.encode import IGNORE, BadRow, Encoded, Encoder, Message, load_encoder
from recipes.errors import UserError

__all__ = ["IGNORE", "BadRow", "Encoded", "Text"]


class Text:
    """A model's tokenizer, with its chat template where it has one."""

    def __init__(self, tokenizer: Any, encoder: Encoder | None, no_encoder: str) -> None:
        self.tokenizer = tokenizer
        self._encoder = encoder
        self._no_encoder = no_encoder

    @property
    def encoder(self) -> Encoder:
        """The encoder of conversations.

        Raises:
            UserError: the model has no chat template.
        """
        if self._encoder is None:
            raise UserError(self._no_encoder)
        return self._encoder

    @property
    def has_template(self) -> bool:
        return self._encoder is not None

    @property
    def template(self) -> str:
        """The chat template's text; empty where there is none."""
        return str(self._encoder.template or self.tokenizer.chat_template) if self._encoder else ""

    @property
    def turn_ends(self) -> tuple[int, ...]:
        """The tokens at which replies of this template end, where the model does not declare them."""
        return self._encoder.end.ids if self._encoder else ()

    @cached_property
    def beginning(self) -> list[int]:
        """What the tokenizer of itself puts before a text, as those of Llama and Gemma do; not what it puts behind."""
        whole, bare = (self.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
        starts = (n for n in range(len(whole)) if list(whole[n : n + len(bare)]) == list(bare))
        return list(whole[: next(starts, 0)])

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text; with the tokenizer's own beginning of sequence where `special`."""
        return self.batch_ids([text], special=special)[0]

    def batch_ids(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        first = self.beginning if special else []
        return [[*first, *ids] for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def chat_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of a conversation up to where the reply begins."""
        return self.ids(self.encoder.render(messages, reply_next=True))

    def prompt_ids(self, prompt: str, *, chat: bool) -> list[int]:
        """Token ids of a prompt: as a user's turn where `chat` and there is a template, else as plain text."""
        if chat and self.has_template:
            return self.chat_ids([{"role": "user", "content": prompt}])
        return self.ids(prompt, special=True)

    def room(self, positions: int, max_new_tokens: int, max_length: int) -> int:
        """Tokens of prompt text that fit beside the template, the reply and a margin for what re-encoding adds."""
        around = len(self.prompt_ids("", chat=True))
        return max(16, min(max_length, positions - max_new_tokens - around - 16))

    def identity(self) -> dict[str, str]:
        """Hashes of the tokenizer and of the chat template with its variables."""
        encoder = self._encoder
        variables = encoder.variables if encoder else {}
        return {
            "tokenizer": text_hash(self.tokenizer.backend_tokenizer.to_str()),
            "template": json_hash([self.template, variables]),
        }


def load_text(directory: Path, spec: Spec) -> Text:
    """The tokenizer in a model's directory.

    Raises:
        UserError: there is none.
    """
    wanted = {
        "path": str(directory), "revision": None, "trust_remote_code": spec.trust_remote_code,
        "chat_template": spec.chat_template, "chat_template_kwargs": spec.chat_template_kwargs,
    }  # fmt: skip
    try:
        encoder = load_encoder(wanted)
    except BadRow as error:
        return Text(_bare_tokenizer(directory, spec, str(error)), None, str(error))
    return Text(encoder.tokenizer, encoder, "")


def _bare_tokenizer(directory: Path, spec: Spec, why: str) -> Any:
    """A tokenizer without a chat template, which is all that some suites need."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError):
        raise UserError(why) from None
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(why)
    return tokenizer
