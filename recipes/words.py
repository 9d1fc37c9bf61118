"""Where the words of each message stand in a rendered conversation, told by marks that the template carries along."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from recipes.template import BadRow, Message

# What thinking stands between; templates look for these, so they stay unmarked.
TAG = re.compile(r"(</?(?:think|thinking|thought|reasoning|seed:think)>|\[/?THINK\])")
FIELDS = ("reasoning_content", "content")  # in the order in which templates write them
# The two planes of private characters: what stands for them in a pattern, and their first.
PLANES = ((re.compile("[\U000f0000-\U000ffffd]"), 0xF0000), (re.compile("[\U00100000-\U0010fffd]"), 0x100000))
PLANE_SIZE = 0xFFFE


@dataclass(frozen=True)
class Words:
    """A stretch of a message without white space around it: all of a message, or what stands between tags.

    start: where it begins in the message's field.
    opening, closing: the tags before it; and behind it, where no words follow.
    thought: whether it is a reply's thinking.
    """

    turn: int
    field: str
    start: int
    text: str
    opening: tuple[str, ...] = ()
    thought: bool = False
    closing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where words stand in the render; not `whole` where they are changed there."""

    words: Words
    begin: int
    end: int
    whole: bool


@dataclass(frozen=True)
class _Mark:
    """A private character: whose, at which offset of the words, and the character that it stands for ("": none)."""

    words: Words
    offset: int
    instead: str


Marker = Callable[[Words], tuple[tuple[int, str], ...]]  # (offset, instead) of each mark of some words


def _around(words: Words) -> tuple[tuple[int, str], ...]:
    return ((0, ""), (len(words.text), ""))


def _inside(words: Words) -> tuple[tuple[int, str], ...]:
    """In the place of a character: begin, end and length stay as they are, for templates that look at these."""
    middle = len(words.text) // 2
    return ((middle, words.text[middle]),)


def words_of(messages: Sequence[Message]) -> list[Words]:
    found = []
    for turn, message in enumerate(messages):
        for field in FIELDS:
            value = message.get(field)
            if isinstance(value, str):
                found += _words(turn, field, value, message["role"])
    return found


def _words(turn: int, field: str, value: str, role: str) -> list[Words]:
    pieces = TAG.split(value) if role == "assistant" else [value]  # words, tag, words, tag, … words
    if not any(piece.strip() for piece in pieces[::2]):
        pieces = [value]  # a reply of nothing but tags
    last_closing = max((n for n in range(1, len(pieces), 2) if "/" in pieces[n]), default=0)
    found: list[Words] = []
    opening: tuple[str, ...] = ()
    start = 0
    for number, piece in enumerate(pieces):
        core = piece.strip()
        if number % 2:
            opening += (piece,)
        elif core:
            thought = number < last_closing or field != "content"
            found.append(Words(turn, field, start + piece.index(core), core, opening, thought))
            opening = ()
        start += len(piece)
    if found and opening:
        found[-1] = replace(found[-1], closing=opening)
    return found


def find(messages: Sequence[Message], words: Sequence[Words], text: str, render: Callable[..., str]) -> list[Place]:
    """Where the words stand in `text`, the render of the messages; in the order of the text. Words may be missing.

    Raises:
        BadRow: words are there, and it cannot be told where.
    """
    found = _marked(messages, words, text, render, _around)
    if found is None:  # a template that looks at the words: each turn for itself
        found = []
        for turn in dict.fromkeys(one.turn for one in words):
            own = [one for one in words if one.turn == turn]
            for marker in (_around, _inside):
                places = _marked(messages, own, text, render, marker)
                if places is not None:
                    break
            found += _searched(own, text) if places is None else places
    return sorted(found, key=lambda place: (place.begin, place.end))


def tail_after(
    messages: Sequence[Message], words: Words, render: Callable[..., str], *, reply_next: bool = False
) -> str | None:
    """What stands behind words in the render of some messages; None where they are not in it."""
    marked, marks, _ = _mark(messages, [words], _around)
    last = max(marks)
    text = render(marked, reply_next=reply_next)
    return text.rpartition(last)[2] if last in text else None


def _marked(
    messages: Sequence[Message], words: Sequence[Words], text: str, render: Callable[..., str], marker: Marker
) -> list[Place] | None:
    """Places by one way of marking; None where the template renders something else with the marks."""
    if not words:
        return []
    marked, marks, pattern = _mark(messages, words, marker)
    try:
        rendered = render(marked)
    except BadRow:
        return None
    seen: dict[Words, list[tuple[int, int]]] = {}
    plain: list[str] = []
    length = last = 0
    for match in pattern.finditer(rendered):
        mark = marks.get(match[0])
        if mark is None:
            return None
        length += match.start() - last
        seen.setdefault(mark.words, []).append((length, mark.offset))
        plain += (rendered[last : match.start()], mark.instead)
        last, length = match.end(), length + len(mark.instead)
    if "".join((*plain, rendered[last:])) != text:
        return None
    return [place for one, at in seen.items() for place in _places(one, at, text)]


def _places(words: Words, at: list[tuple[int, int]], text: str) -> list[Place]:
    """The places of some words, of their marks' positions and offsets in the order of the text."""
    places: list[Place] = []
    while at:
        (position, offset), at = at[0], at[1:]
        if offset == 0 and at and at[0][1] == len(words.text):
            begin, end, at = position, at[0][0], at[1:]
        else:
            begin, end = _grown(words.text, offset, text, position)
        places.append(Place(words, begin, end, text[begin:end] == words.text))
    return places


def _grown(words: str, offset: int, text: str, position: int) -> tuple[int, int]:
    """How far words and text agree around a position of both."""
    begin, end = 0, 0
    while begin < min(offset, position) and words[offset - begin - 1] == text[position - begin - 1]:
        begin += 1
    while offset + end < len(words) and position + end < len(text) and words[offset + end] == text[position + end]:
        end += 1
    return position - begin, position + end


def _searched(words: Sequence[Words], text: str) -> list[Place]:
    found = []
    for one in words:
        count = text.count(one.text)
        if count > 1:
            reason = "the chat template looks at its text, which stands there more than once"
            raise BadRow(f"turn {one.turn + 1}: it cannot be told where it stands in the conversation: {reason}")
        if count:
            begin = text.index(one.text)
            found.append(Place(one, begin, begin + len(one.text), True))
    return found


def _mark(
    messages: Sequence[Message], words: Sequence[Words], marker: Marker
) -> tuple[list[Message], dict[str, _Mark], re.Pattern[str]]:
    """The messages with marks, what each mark is (ascending with words and offsets), and how marks are found."""
    marked: list[Message] = [dict(message) for message in messages]
    every = [(one, offset, instead) for one in words for offset, instead in marker(one)]
    pattern, base = _plane(messages)
    if len(every) > PLANE_SIZE:
        raise BadRow(f"it has {len(words)} stretches of text between tags; at most {PLANE_SIZE // 2} can be told apart")
    marks = {chr(base + n): _Mark(*mark) for n, mark in enumerate(every)}
    for character, mark in reversed(marks.items()):  # from the end, so that offsets before it stay true
        value = marked[mark.words.turn][mark.words.field]
        at = mark.words.start + mark.offset
        marked[mark.words.turn][mark.words.field] = value[:at] + character + value[at + len(mark.instead) :]
    return marked, marks, pattern


def _plane(messages: Sequence[Message]) -> tuple[re.Pattern[str], int]:
    """A plane of private characters that the messages do not use."""
    values = [value for message in messages for value in message.values() if isinstance(value, str)]
    for pattern, base in PLANES:
        if not any(pattern.search(value) for value in values):
            return pattern, base
    raise BadRow("it has private characters of both planes (from U+F0000 and U+100000), which mark where text stands")
