"""Turns canonical rows into token ids and a loss mask, by the model's own chat template, once for every backend.

The whole conversation is rendered and tokenized in one piece, as the model will see it when it is used (in pieces only
where a token would lie over the border of prompt and reply); the replies are then found in the rendered text, by their
own words (recipes/mask.py). So what a template rewrites (Qwen3 takes the thinking out of earlier turns) is trained as
rewritten, and said. Loss falls on each reply with its end-of-turn and what the template puts after it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from recipes.calls import Message
from recipes.mask import Reader, Reading, Stops
from recipes.model_files import end_tokens, model_file
from recipes.paths import control_tokens, template_file, template_names
from recipes.stops import TurnEnd, turn_end
from recipes.template import BadRow, Template, shaped
from recipes.tokenizer import field_of, load_tokenizer, name_of, unreadable, vocabulary_of

__all__ = ["IGNORE", "BadRow", "Encoded", "Encoder", "Message", "load_encoder"]

IGNORE = -100  # the label without loss, in torch, transformers and both backends


@dataclass(frozen=True)
class Encoded:
    """Token ids of one conversation, and which of them carry loss.

    loss: first and last token (exclusive) of each stretch with loss, in their order.
    notes: what the template did to the conversation that its writer may not expect.
    thoughts: first and last token (exclusive) of each stretch of a reply's thinking.
    """

    ids: list[int]
    loss: tuple[tuple[int, int], ...]
    notes: tuple[str, ...] = ()
    thoughts: tuple[tuple[int, int], ...] = ()

    @property
    def labels(self) -> list[int]:
        """As many as ids: the id where there is loss, else IGNORE."""
        labels = [IGNORE] * len(self.ids)
        for first, last in self.loss:
            labels[first:last] = self.ids[first:last]
        return labels

    @property
    def prompt_length(self) -> int:
        """Tokens before the first with loss; all of them where none has."""
        return self.loss[0][0] if self.loss else len(self.ids)

    @property
    def supervised(self) -> int:
        return sum(last - first for first, last in self.loss)

    @property
    def thought(self) -> int:
        """Tokens of thinking that carry loss."""
        shared = (min(a[1], b[1]) - max(a[0], b[0]) for a in self.thoughts for b in self.loss)
        return sum(count for count in shared if count > 0)

    def cut(self, length: int) -> Encoded:
        loss = tuple((first, min(last, length)) for first, last in self.loss if first < length)
        return replace(self, ids=self.ids[:length], loss=loss)


DATED = "the chat template writes the date (strftime_now): the one on which the rows are prepared"


class Encoder:
    """A tokenizer with its chat template.

    Args:
        tokenizer: a fast tokenizer of transformers.
        template: Jinja text in place of the tokenizer's own, or None.
        variables: given to the template (`enable_thinking`, …).
        parts: the roles whose content the template wants as a list of parts.
        name: where the template comes from, for messages.
        end: how replies end.
        vocabulary: rows of the model's embedding, or None where they are not known.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None,
        variables: dict[str, Any],
        *,
        parts: frozenset[str] = frozenset(),
        name: str = "the chat template",
        end: TurnEnd | None = None,
        vocabulary: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.variables = variables
        self.end = end or TurnEnd(Stops())
        self.vocabulary = vocabulary
        self._template = Template(tokenizer, template, variables, parts, name)
        self._reader = Reader(self.render, self.end.stops, controls_of(tokenizer))

    @property
    def unread(self) -> list[str]:
        """What is to be said of each variable that the template does not name."""
        return self._template.unread

    def render(self, messages: Sequence[Message], *, reply_next: bool = False) -> str:
        return self._template.render(messages, reply_next=reply_next)

    def encode(self, conversations: Sequence[list[Message]], *, last_only: bool) -> list[Encoded | BadRow]:
        """Encode a batch; a conversation that cannot be trained on gives its BadRow in place."""
        read: list[Reading | BadRow] = []
        for messages in conversations:
            try:
                read.append(self._read(messages, last_only))
            except BadRow as error:
                read.append(error)
        good = [item for item in read if not isinstance(item, BadRow)]
        tokens = iter(self._tokenize(good) if good else [])
        return [item if isinstance(item, BadRow) else self._checked(next(tokens)) for item in read]

    def _read(self, messages: list[Message], last_only: bool) -> Reading:
        reading = self._reader.read(messages, last_only=last_only)
        try:
            reading.text.encode()
        except UnicodeEncodeError as error:
            half = reading.text[error.start]
            raise BadRow(f"it has half of a character (the lone surrogate {half!r}): text cut in two?") from None
        return replace(reading, notes=(*reading.notes, DATED)) if self._template.writes_the_date else reading

    def _checked(self, encoded: Encoded) -> Encoded | BadRow:
        text = unreadable(self.tokenizer, encoded.ids, self.vocabulary)
        return BadRow(text) if text else encoded

    def _tokenize(self, readings: Sequence[Reading]) -> list[Encoded]:
        batch = self._tokens([reading.text for reading in readings])
        found = []
        for ids, tokens, reading in zip(batch["input_ids"], batch.encodings, readings, strict=True):
            first_at = partial(_first_at, tokens)
            # The token before a border reaches over it, if any does.
            before = ((first_at(start), start) for start, _ in reading.spans)
            astride = any(place and tokens.token_to_chars(place - 1)[1] > start for place, start in before)
            whole = _encoded(ids, first_at, reading)
            found.append((self._in_pieces(reading) or whole) if astride else whole)
        return found

    def _tokens(self, texts: list[str]) -> Any:
        """The ids of texts; where each token stands is asked of `encodings`: lists of it took a third of the time."""
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)  # the template writes them

    def _in_pieces(self, reading: Reading) -> Encoded | None:
        """Tokenize each reply apart from its prompt: a token over the border is one that generation would never see.

        None with a tokenizer that puts a space before every text (SentencePiece): apart would not be as together.
        """
        ids: list[int] = []
        begins: list[int] = []  # of each token in the whole text
        edges = [0, *(start for start, _ in reading.spans), len(reading.text)]
        for start, stop in pairwise(edges):
            text = reading.text[start:stop]
            piece = self._tokens([text])
            own = piece["input_ids"][0]
            if ids and str(self.tokenizer.convert_ids_to_tokens(own[0])).startswith("▁") and not text.startswith(" "):
                return None
            ids += own
            begins += (start + begin for begin, _ in piece.encodings[0].offsets)
        return _encoded(ids, partial(bisect_left, begins), reading)


def _first_at(tokens: Any, character: int) -> int:
    """The first token that begins at a character or behind it; as many as there are where none does."""
    return bisect_left(range(len(tokens)), character, key=lambda n: tokens.token_to_chars(n)[0])


def _encoded(ids: list[int], first_at: Callable[[int], int], reading: Reading) -> Encoded:
    """A token has loss where it begins inside a reply."""
    spans = (((first_at(start), first_at(end)) for start, end in part) for part in (reading.spans, reading.thoughts))
    loss, thoughts = (tuple(span for span in part if span[0] < span[1]) for part in spans)
    return Encoded(ids, loss, reading.notes, thoughts)


def controls_of(tokenizer: Any) -> re.Pattern[str] | None:
    """The tokenizer's control tokens, as they may stand in a text that means them or not."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    texts = [token.content for token in added if token.special and token.content.strip()]
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None


def load_encoder(spec: Mapping[str, Any]) -> Encoder:
    """The encoder of a recipe's model.

    Args:
        spec: path, revision, trust_remote_code, chat_template (a file or None), chat_template_kwargs; and tokenizer,
            where it is not the model's own.

    Raises:
        BadRow: no tokenizer there, no fast one, one that does not fit the model, or no chat template that works.
    """
    path, revision = spec["path"], spec["revision"]
    config = model_file(path, "config.json", revision)
    tokenizer = load_tokenizer(spec)
    file, variables = spec["chat_template"], dict(spec["chat_template_kwargs"])
    name = f"model.chat_template: {file}" if file else f"model.{field_of(spec)}: the chat template of {name_of(spec)}"
    template = Template(tokenizer, _template_text(spec, tokenizer), variables, name=name)
    template = shaped(template)
    generation = end_tokens(model_file(path, "generation_config.json", revision), config)
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    if tokenizer.eos_token:
        added[tokenizer.eos_token] = tokenizer.eos_token_id
    return Encoder(
        tokenizer,
        template.text,
        variables,
        parts=template.parts,
        name=name,
        end=turn_end(template.render, added, tokenizer.eos_token_id, generation, tokenizer.bos_token),
        vocabulary=vocabulary_of(spec),
    )


def _template_text(spec: Mapping[str, Any], tokenizer: Any) -> str | None:
    """The template in place of the tokenizer's own; of several named ones, as Command and Hermes have, the default."""
    if spec["chat_template"]:
        file = Path(spec["chat_template"])
        missing = control_tokens(file) - tokenizer.get_vocab().keys()
        if missing:
            text = f"this tokenizer has no token {' or '.join(sorted(missing))}; choose from {_fitting(tokenizer)}"
            raise BadRow(f"model.chat_template: {file.stem}: {text}")
        return file.read_text(encoding="utf-8")
    own = tokenizer.chat_template
    if isinstance(own, dict):
        if "default" not in own:
            known = ", ".join(sorted(own))
            text = f"its chat templates are {known}, and none of them is the default"
            raise BadRow(f"model.{field_of(spec)}: {text}; give one as model.chat_template: FILE.jinja")
        return str(own["default"])
    if not own:
        raise BadRow(
            f"model.{field_of(spec)}: {name_of(spec)} has no chat template; give one as model.chat_template: "
            f"{_fitting(tokenizer)}, or a file of your own"
        )
    return None


def _fitting(tokenizer: Any) -> str:
    """The templates that a recipe can name whose control tokens the tokenizer has, those first that need any."""
    needed = {name: control_tokens(template_file(name, Path())) for name in template_names()}
    fitting = [name for name, tokens in needed.items() if tokens <= tokenizer.get_vocab().keys()]
    return ", ".join(sorted(fitting, key=lambda name: (not needed[name], name)))
