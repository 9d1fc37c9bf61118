"""Where the words of each message stand in a rendered conversation, told by marks that the template carries along."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recipes.calls import Message
from recipes.template import BadRow

# What thinking stands between; templates look for these, so they stay unmarked.
TAG = re.compile(r"(</?(?:think|thinking|thought|reasoning|seed:think)>|\[/?THINK\])")
OPENED = re.compile(rf"{TAG.pattern}\s*\Z")
FIELDS = ("reasoning_content", "content")  # in the order in which templates write them
NO_WORDS = ("id", "type")  # of a tool call: templates need not write them
Path = tuple[str | int, ...]
# The two planes of private characters: what stands for them in a pattern, and their first.
PLANES = ((re.compile("[\U000f0000-\U000ffffd]"), 0xF0000), (re.compile("[\U00100000-\U0010fffd]"), 0x100000))
PLANE_SIZE = 0xFFFE


@dataclass(frozen=True)
class Words:
    """A stretch of a message without white space around it: all of a message, or what stands between tags.

    path: the keys and indices that lead from the message to the text that holds it.
    start: where it begins in that text.
    opening, closing: the tags before it; and behind it, where no words follow.
    thought: whether it is a reply's thinking.
    result: whether a tool gave them.
    """

    turn: int
    path: tuple[str | int, ...]
    start: int
    text: str
    opening: tuple[str, ...] = ()
    thought: bool = False
    closing: tuple[str, ...] = ()
    result: bool = False

    @property
    def of_call(self) -> bool:
        """Whether it is of a tool call: the function's name, or a text among its arguments."""
        return self.path[0] == "tool_calls"

    @property
    def a_name(self) -> bool:
        return self.path[-2:] == ("function", "name")


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
            if isinstance(message.get(field), str):
                found += _words(turn, field, message[field], message["role"])
        for path, value in texts_in(message.get("tool_calls"), ("tool_calls",)):
            if path[-1] not in NO_WORDS and (core := value.strip()):
                found.append(Words(turn, path, value.index(core), core))
    return found


def texts_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """The texts of a nested value."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, (list, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts_in(item, (*path, key))


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
            at = start + piece.index(core)
            found.append(Words(turn, (field,), at, core, opening, thought, result=role == "tool"))
            opening = ()
        start += len(piece)
    if found and opening:
        found[-1] = replace(found[-1], closing=opening)
    return found


class Finder:
    """Finds the words of one conversation in what a template renders of it, by private characters of no other use.

    Raises:
        BadRow: the conversation uses them all.
    """

    def __init__(self, messages: Sequence[Message], render: Callable[..., str]) -> None:
        self.messages, self.render = messages, render
        self._pattern, self._base = _plane(messages)

    def find(self, words: Sequence[Words], text: str) -> list[Place]:
        """Where the words stand in `text`, the render of all messages, in its order. Words may be missing.

        Raises:
            BadRow: words are there, and it cannot be told where.
        """
        found = self._places(words, text, _around)
        if found is None:  # a template that looks at the words: each turn for itself
            found = []
            for turn in dict.fromkeys(one.turn for one in words):
                own = [one for one in words if one.turn == turn]
                for marker in (_around, _inside):
                    places = self._places(own, text, marker)
                    if places is not None:
                        break
                found += _searched(own, text) if places is None else places
        found.sort(key=lambda place: (place.begin, place.end))
        # A result may be headed by the name of the function that was called: only the first is the call's.
        names: dict[Words, Place] = {}
        return [place for place in found if not place.words.a_name or names.setdefault(place.words, place) is place]

    def tail_after(self, words: Words, turns: int, *, reply_next: bool = False) -> str | None:
        """What stands behind words in the render of the first turns; None where they are not in it."""
        marked, marks = self._mark(self.messages[:turns], [words], _around)
        last = max(marks)
        text = self.render(marked, reply_next=reply_next)
        return text.rpartition(last)[2] if last in text else None

    def _places(self, words: Sequence[Words], text: str, marker: Marker) -> list[Place] | None:
        """Places by one way of marking; None where the template renders something else with the marks."""
        if not words:
            return []
        marked, marks = self._mark(self.messages, words, marker)
        try:
            rendered = self.render(marked)
        except BadRow:
            return None
        seen: dict[Words, list[tuple[int, int]]] = {}
        plain: list[str] = []
        length = last = 0
        for match in self._pattern.finditer(rendered):
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

    def _mark(
        self, messages: Sequence[Message], words: Sequence[Words], marker: Marker
    ) -> tuple[list[Message], dict[str, _Mark]]:
        """The messages with marks, and what each mark is (ascending with words and offsets)."""
        marked: list[Message] = list(messages)
        every = [(one, offset, instead) for one in words for offset, instead in marker(one)]
        if len(every) > PLANE_SIZE:
            most = PLANE_SIZE // 2
            raise BadRow(f"it has {len(words)} stretches of text between tags; at most {most} can be told apart")
        marks = {chr(self._base + n): _Mark(*mark) for n, mark in enumerate(every)}
        for character, mark in reversed(marks.items()):  # from the end, so that offsets before it stay true
            at = mark.words.start + mark.offset
            turn, put = mark.words.turn, (at, at + len(mark.instead), character)
            marked[turn] = _with(marked[turn], mark.words.path, put)
        return marked, marks


def _places(words: Words, at: list[tuple[int, int]], text: str) -> list[Place]:
    """The places of some words, of their marks' positions and offsets in the order of the text."""
    places: list[Place] = []
    while at:
        (position, offset), at = at[0], at[1:]
        if offset == 0 and at and at[0][1] == len(words.text):
            begin, end, at = position, at[0][0], at[1:]
        else:
            begin, end = _grown(words.text, offset, text, position)
        places.append(Place(words, begin, end, _is(words, text[begin:end])))
    return places


def _is(words: Words, text: str) -> bool:
    """Whether a text is these words; of a tool call and its result, also as JSON writes them."""
    as_json = words.of_call or words.result
    return text == words.text or (as_json and text == json.dumps(words.text, ensure_ascii=False)[1:-1])


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


def _with(value: Any, path: Path, put: tuple[int, int, str]) -> Any:
    """A copy of a nested value in which a slice of the text at `path` is replaced."""
    if not path:
        return value[: put[0]] + put[2] + value[put[1] :]
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:], put)
    return copy


def _plane(messages: Sequence[Message]) -> tuple[re.Pattern[str], int]:
    """A plane of private characters that the messages do not use."""
    values = [value for _, value in texts_in(list(messages))]
    for pattern, base in PLANES:
        if not any(pattern.search(value) for value in values):
            return pattern, base
    raise BadRow("it has private characters of both planes (from U+F0000 and U+100000), which mark where text stands")
