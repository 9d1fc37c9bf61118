"""Encodes every shape of conversation by every template, and compares ids, mask and notes with the reference.

Usage: python -m tests.recipes.sweep, where jinja2 and transformers are installed; prints each difference as one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from recipes import mask
from recipes.encode import IGNORE, BadRow, Encoded, Encoder
from recipes.stops import turn_end
from recipes.template import Template, shaped
from tests.recipes.families import FAMILIES, SHIPPED, Family, Message, Segment
from tests.recipes.tokens import Batch, Span

TEMPLATES = Path(__file__).parents[1] / "templates"
OURS = Path(__file__).parents[2] / "recipes/templates"


class Added(NamedTuple):
    content: str
    special: bool = True


class ToyTokenizer:
    """Control tokens, words, runs of white space, and single characters; an id is the token's place in a table."""

    def __init__(self, template: str, family: Family) -> None:
        self.chat_template = template
        self.variables = {"bos_token": family.bos, "eos_token": family.stops[0]}
        every = {*family.stops, *family.specials, family.added, family.bos, family.borrowed} - {""}
        self.added_tokens_decoder = {n: Added(text) for n, text in enumerate(sorted(every))}
        longest_first = sorted(map(re.escape, every), key=len, reverse=True)
        self.pattern = re.compile("|".join([*longest_first, r"[a-z]+|\s+|."]), re.DOTALL)
        self.table = {text: n for n, text in enumerate(sorted(every))}

    def __call__(self, texts: list[str], **_: Any) -> Batch:
        found = [self.split(one) for one in texts]
        return Batch([ids for ids, _ in found], [spans for _, spans in found])

    def split(self, text: str) -> tuple[list[int], list[Span]]:
        matches = list(self.pattern.finditer(text))
        return [self.table.setdefault(match[0], len(self.table)) for match in matches], [m.span() for m in matches]

    def convert_ids_to_tokens(self, number: int) -> str:
        return next(text for text, n in self.table.items() if n == number)

    def apply_chat_template(self, messages: list[Any], chat_template: str | None, tokenize: bool, **given: Any) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        chosen = chat_template or self.chat_template
        rendered, _ = render_jinja_template(conversations=[messages], chat_template=chosen, **self.variables, **given)
        return str(rendered[0])


def conversation(*texts: str, system: str | None = None) -> list[Message]:
    roles = ["user", "assistant"] * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def shapes(family: Family) -> dict[str, tuple[list[Message], bool]]:
    """Conversations by name, with whether only the last reply is trained."""
    control = f"say:{family.stops[0]}\n{family.user.replace('{}', 'x')}."
    thinking = f"<{family.tag}>\ntwice two\n</{family.tag}>\n\nfour."
    long = conversation("one", "two", "three", "four", "five", "six", system="You count.")
    return {
        "single": (conversation("What is 2 + 2?", "It is 4."), False),
        "single, system": (conversation("hi there", "hello", system="Be kind."), False),
        "multi": (conversation("And 1?", "1 it is.", "And 2?", "2 it is.", "And 3?", "3 it is."), False),
        "multi, system": (conversation("hi", "good day", "and so?", "nothing", system="Be brief."), False),
        "last turn only": (long, True),
        "long, system": (long, False),
        "Chinese and others": (conversation("什么是复利？", "利息也生利息。🙂", "été?", "Äh, nein\u2028doch."), False),
        "reply is the question": (conversation("same words", "same words", "same words", "same words"), False),
        "reply holds the prompt": (conversation("Repeat: ab", "ab Repeat: ab", "ab", "Repeat: ab Repeat: ab"), False),
        "white space around": (conversation(" a \n", "  two \n\n", "\n\nb", "\n three\t"), False),
        "thinking": (conversation("2 * 2?", thinking), False),
        "thinking, multi": (conversation("2 * 2?", thinking, "and 2 + 2?", thinking, "1 + 1?", "two"), False),
        "empty question": (conversation("", "I say hi.", "", "And again."), False),
        "short": (conversation("a", "a", "s", "u"), False),
        "control text": (conversation("quote it", control, "and?", "done"), False),
        "equal replies": (conversation("x?", "yes", "y?", "yes", "z?", "yes"), False),
        "system is the question": (conversation("do it", "done", "do it", "done", system="do it"), False),
        "words of the template": (conversation("assistant", "user", "model", "system\n\nassistant"), False),
        "lines": (conversation("a\n\nb\n\nc", "d\n\ne\n", "f", "g\n\nh"), False),
    }


def reference(tokenizer: ToyTokenizer, segments: list[Segment]) -> tuple[list[int], list[int]]:
    """Ids and labels, turn by turn: each reply is tokenized from where it begins, as generation begins there."""
    texts, flags = [""], [""]
    for n, (text, loss) in enumerate(segments):
        if loss and not (n and segments[n - 1][1]):
            texts.append("")
            flags.append("")
        texts[-1] += text
        flags[-1] += ("+" if loss else "-") * len(text)
    ids: list[int] = []
    labels: list[int] = []
    for text, flag in zip(texts, flags, strict=True):
        own, spans = tokenizer.split(text)
        ids += own
        labels += [i if flag[at] == "+" else IGNORE for i, (at, _) in zip(own, spans, strict=True)]
    return ids, labels


def expected_notes(family: Family, messages: list[Message], last_only: bool, segments: list[Segment]) -> set[str]:
    """What is to be said, told from the row and the segments."""
    notes = {mask.EMPTY} if {"role": "user", "content": ""} in messages else set()
    if messages[0]["role"] == "system":
        turns = sum(message["role"] == "user" for message in messages)
        notes |= {mask.NO_SYSTEM} if family.system_in == "nowhere" else set()
        notes |= {mask.SYSTEM_MOVED} if family.system_in == "last" and turns > 1 else set()
    replies = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    thoughts = [n for n in replies if "twice two" in messages[n]["content"]]
    kept = "".join(text for text, _ in segments).count("twice two")
    lost = thoughts[: len(thoughts) - kept]  # templates keep the later ones
    notes |= {mask.NO_THINKING} if replies[-1] in lost else set()
    notes |= {mask.NO_EARLIER_THINKING} if {*lost} - {replies[-1]} else set()
    stops = {*family.stops, family.added, family.borrowed} - {""}
    own = family.end + family.borrowed
    earlier = "".join(family.middle or (family.end, ""))[: len((family.middle or (family.end,))[0])] + family.borrowed
    notes |= set() if any(stop in own for stop in stops) else {mask.NO_STOP}
    if len(replies) > 1 and not last_only:
        notes |= set() if any(stop in earlier for stop in stops) else {mask.NO_EARLIER_STOP}
    return notes


def encoder_of(tokenizer: ToyTokenizer, family: Family) -> Encoder:
    """As `load_encoder` makes it of a model whose generation stops as the family's does."""
    template = shaped(Template(tokenizer, None, {}))
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    own = [added[stop] for stop in family.stops]
    end = turn_end(template.render, added, own[0], own)
    return Encoder(tokenizer, None, {}, parts=template.parts, end=end)


def differences() -> Iterator[str]:
    files = {TEMPLATES / f"{name}.jinja": family for name, family in FAMILIES.items()}
    files |= {OURS / f"{name}.jinja": family for name, family in SHIPPED.items()}
    for file, family in files.items():
        name = f"{file.parent.parent.name}/{file.stem}"
        tokenizer = ToyTokenizer(file.read_text(encoding="utf-8"), family)
        encoder = encoder_of(tokenizer, family)
        if (added := encoder.end.added) != family.added:
            yield f"{name}: the turn's end that the model does not know is {added!r}, expected {family.added!r}"
        for shape, (messages, last_only) in shapes(family).items():
            segments = family.segments(messages, last_only)
            found = encoder.encode([messages], last_only=last_only)[0]
            yield from (
                f"{name}, {shape}: {text}" for text in compare(tokenizer, family, messages, segments, found, last_only)
            )


def compare(
    tokenizer: ToyTokenizer,
    family: Family,
    messages: list[Message],
    segments: list[Segment] | None,
    found: Encoded | BadRow,
    last_only: bool,
) -> Iterator[str]:
    if segments is None or isinstance(found, BadRow):
        if segments is not None or isinstance(found, Encoded) or "refuses it" not in str(found):
            yield f"got {found}, expected {segments or 'a refusal'}"
        return
    ids, labels = reference(tokenizer, segments)
    if (found.ids, found.labels) != (ids, labels):
        yield f"got {_shown(tokenizer, found.ids, found.labels)}, expected {_shown(tokenizer, ids, labels)}"
    notes = {note for note in found.notes if "control tokens" not in note and "changes the text" not in note}
    expected = expected_notes(family, messages, last_only, segments)
    if notes != expected:
        yield f"got the notes {notes}, expected {expected}"


def _shown(tokenizer: ToyTokenizer, ids: list[int], labels: list[int]) -> str:
    """The tokens with loss stand in braces."""
    tokens = {number: text for text, number in tokenizer.table.items()}
    return "".join(
        tokens[i] if label == IGNORE else f"{{{tokens[i]}}}" for i, label in zip(ids, labels, strict=True)
    ).__repr__()


if __name__ == "__main__":
    for line in differences():
        print(line)
