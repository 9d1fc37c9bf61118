"""Turns canonical rows into token ids and a loss mask, by the model's own chat template, once for every backend.

The whole conversation is rendered and tokenized in one piece, as the model will see it when it is used (in pieces only
where a token would lie over the border of prompt and reply); the replies are then found in the rendered text. So what a
template rewrites (Qwen3 takes the thinking out of earlier turns) is trained as rewritten. Loss falls on each reply with
its end-of-turn and what the template puts after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Message = dict[str, str]
HINT = "(check the name; the network and HF_ENDPOINT; your access and HF_TOKEN; or give a local directory)"
IGNORE = -100  # the label without loss, in torch, transformers and both backends


class BadRow(Exception):
    """A malformed row; the text says what is wrong with it."""


@dataclass(frozen=True)
class Encoded:
    """Token ids and labels of one conversation, equally long; labels are IGNORE where there is no loss."""

    ids: list[int]
    labels: list[int]

    @property
    def prompt_length(self) -> int:
        """Tokens before the first with loss; all of them where none has."""
        return next((n for n, label in enumerate(self.labels) if label != IGNORE), len(self.labels))

    @property
    def supervised(self) -> int:
        return sum(label != IGNORE for label in self.labels)

    def cut(self, length: int) -> Encoded:
        return Encoded(self.ids[:length], self.labels[:length])


class Encoder:
    """A tokenizer with its chat template.

    Args:
        tokenizer: a fast tokenizer of transformers.
        template: Jinja text in place of the tokenizer's own, or None.
        variables: given to the template (`enable_thinking`, …).
    """

    def __init__(self, tokenizer: Any, template: str | None, variables: dict[str, Any]) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.variables = variables

    def render(self, messages: list[Message], *, reply_next: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    chat_template=self.template,
                    tokenize=False,
                    add_generation_prompt=reply_next,
                    **self.variables,
                )
            )
        except TemplateError as error:
            raise BadRow(f"the chat template refuses it: {error}") from None

    def spans(self, messages: list[Message], text: str, *, last_only: bool) -> list[tuple[int, int]]:
        """Where the replies stand in the rendered text: (start, end) in characters."""
        turns = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
        return [self._span(messages, n, text) for n in (turns[-1:] if last_only else turns)]

    def _span(self, messages: list[Message], turn: int, text: str) -> tuple[int, int]:
        # Where the template gives a generation prompt that history does not keep (an empty thinking block), the
        # reply starts where the two part.
        start = _common(self.render(messages[:turn], reply_next=True), text)
        if turn == len(messages) - 1:
            return start, len(text)
        alone = self.render(messages[: turn + 1])
        if text.startswith(alone):
            return start, len(alone)
        reply = messages[turn]["content"].rpartition("</think>")[2].strip()
        found, tail = text.find(reply, start), alone[alone.rindex(reply) + len(reply) :] if reply in alone else ""
        if found < 0 or not tail or not text.startswith(tail, found + len(reply)):
            raise BadRow(f"the chat template rewrites reply {turn} of the conversation; set data.train_on: last_turn")
        return start, found + len(reply) + len(tail)

    def encode(self, conversations: list[list[Message]], *, last_only: bool) -> list[Encoded | BadRow]:
        """Encode a batch; a conversation that cannot be rendered gives its BadRow in place."""
        rendered: list[tuple[str, list[tuple[int, int]]] | BadRow] = []
        for messages in conversations:
            try:
                text = self.render(messages)
                rendered.append((text, self.spans(messages, text, last_only=last_only)))
            except BadRow as error:
                rendered.append(error)
        good = [item for item in rendered if not isinstance(item, BadRow)]
        tokens = iter(self._tokenize(good) if good else [])
        return [item if isinstance(item, BadRow) else next(tokens) for item in rendered]

    def _tokenize(self, rendered: list[tuple[str, list[tuple[int, int]]]]) -> list[Encoded]:
        batch = self.tokenizer(
            [text for text, _ in rendered],
            add_special_tokens=False,  # the template writes them
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        found = []
        for ids, offsets, (text, spans) in zip(batch["input_ids"], batch["offset_mapping"], rendered, strict=True):
            starts = {start for start, _ in spans}
            astride = any(begin < start < end for begin, end in offsets for start in starts)
            found.append(self._in_pieces(text, spans) if astride else Encoded(ids, _labels(ids, offsets, spans)))
        return found

    def _in_pieces(self, text: str, spans: list[tuple[int, int]]) -> Encoded:
        """Tokenize prompt and replies apart: a token over the border is one that generation would never see."""
        ids: list[int] = []
        labels: list[int] = []
        edges = [0, *(edge for span in spans for edge in span), len(text)]
        for number, (start, end) in enumerate(pairwise(edges)):
            piece = self.tokenizer(text[start:end], add_special_tokens=False)["input_ids"] if start < end else []
            ids += piece
            labels += piece if number % 2 else [IGNORE] * len(piece)
        return Encoded(ids, labels)


def _common(one: str, other: str) -> int:
    """Length of the common beginning of two texts."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _labels(ids: list[int], offsets: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[int]:
    """A token has loss where it begins inside a reply."""
    labels = [IGNORE] * len(ids)
    token = 0
    for start, end in spans:
        while token < len(ids) and offsets[token][0] < start:
            token += 1
        while token < len(ids) and offsets[token][0] < end:
            labels[token] = ids[token]
            token += 1
    return labels


def load_encoder(spec: dict[str, Any]) -> Encoder:
    """The encoder of a recipe's model.

    Args:
        spec: path, revision, trust_remote_code, chat_template (a file or None), chat_template_kwargs.

    Raises:
        BadRow: no tokenizer there, no fast one, or no chat template.
    """
    from pathlib import Path

    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            spec["path"], revision=spec["revision"], trust_remote_code=spec["trust_remote_code"]
        )
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:300]
        raise BadRow(f"model.path: cannot load the tokenizer of {spec['path']}: {first} {HINT}") from None
    template = Path(spec["chat_template"]).read_text(encoding="utf-8") if spec["chat_template"] else None
    if not getattr(tokenizer, "is_fast", False):
        raise BadRow(f"model.path: {spec['path']} has no fast tokenizer, which is needed to place the loss mask")
    if not (template or tokenizer.chat_template):
        raise BadRow(f"model.path: {spec['path']} has no chat template; give one as model.chat_template: FILE.jinja")
    return Encoder(tokenizer, template, dict(spec["chat_template_kwargs"]))
