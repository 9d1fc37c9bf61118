"""Finds each reply in a rendered conversation by its own words, and holds that every message's words stand there.

A template is a program that may do anything with the words. So they are marked: the conversation is rendered once more
with private characters around the words of each message, which the template carries along. Where the marked render,
its marks taken out, equals the true one, the marks say exactly where the words stand, however short or often repeated
they are. What does not stand there is a note (where templates do it on purpose) or a bad row, never silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from recipes.calls import Message
from recipes.template import PROBE, BadRow
from recipes.words import OPENED, Finder, Place, Words, words_of

FAR = 100  # characters between a tag and what it opens, at most
Render = Callable[..., str]  # (messages, *, reply_next=False) -> text

NO_SYSTEM = "the chat template leaves out the system prompt"
SYSTEM_MOVED = "the chat template moves the system prompt behind earlier turns, which are learned without it"
REPEATED = "the chat template repeats the text of {role} turns"
NO_THINKING = "the chat template takes the thinking out of the last reply"
NO_EARLIER_THINKING = "the chat template takes the thinking out of earlier replies"
CHANGED = "the chat template changes the text of {role} turns"
NO_STOP = "no token at which generation stops ends the reply"
NO_EARLIER_STOP = "no token at which generation stops ends replies before the last"
NO_PROMPT = "the chat template has no generation prompt: each reply has to begin with {header}, and is trained to"
EMPTY = "a turn of the user is empty"
CONTROL = "control tokens such as {token} stand in the text of a turn"


@dataclass(frozen=True)
class Stops:
    """The texts of the tokens at which generation stops; `next_turn`: that token where only the next turn brings it."""

    tokens: frozenset[str] = frozenset()
    next_turn: str = ""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


@dataclass(frozen=True)
class Reading:
    """A rendered conversation, where loss falls (start, end in characters), and what is to be said of it.

    thoughts: where replies' thinking stands, without its tags.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]
    thoughts: tuple[tuple[int, int], ...] = ()


class Reader:
    """Reads conversations as one template renders them."""

    def __init__(self, render: Render, stops: Stops, controls: re.Pattern[str] | None = None) -> None:
        self.render = render
        self.stops = stops
        self.controls = controls

    def read(self, messages: Sequence[Message], *, last_only: bool) -> Reading:
        """Render a conversation and find its replies.

        Raises:
            BadRow: the template refuses it, or does with its text what cannot be trained on.
        """
        text = self.render(messages)
        words = words_of(messages)
        finder = Finder(messages, self.render)
        places = finder.find(words, text)
        notes = [*_losses(messages, words, places), *_disorder(messages, places), *self._controls(words)]
        first = {place.words.turn: place for place in reversed(places)}
        turns = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
        spans = []
        for turn in turns[-1:] if last_only else turns:
            if messages[turn].get("weight") == 0:
                continue
            span, stopped = self._span(finder, turn, text, places)
            if not stopped and turn == len(messages) - 1 and self.stops.next_turn:
                # The next turn's first token is what ends this one, and no turn follows.
                text += self.stops.next_turn
                span, stopped = (span[0], len(text)), True
            spans.append(span)
            header = text[span[0] : _opening(text, first[turn])].strip()
            if header and not self._header and not first[turn].words.of_call:
                notes.append(NO_PROMPT.format(header=repr(header)))
            if not stopped:
                notes.append(NO_STOP if turn == turns[-1] else NO_EARLIER_STOP)
        thoughts = tuple((place.begin, place.end) for place in places if place.words.thought)
        return Reading(text, tuple(spans), tuple(dict.fromkeys(notes)), thoughts)

    def _span(self, finder: Finder, turn: int, text: str, places: Sequence[Place]) -> tuple[tuple[int, int], bool]:
        """Where loss falls for a reply, and whether it ends with a token at which generation stops."""
        own = [place for place in places if place.words.turn == turn]
        if not own:
            raise BadRow(f"turn {turn + 1}: the reply is empty, or the chat template leaves nothing of it")
        begin, last = _opening(text, own[0]), max(own, key=lambda place: place.end)
        end = last.end + _closing(text[last.end :], last.words)
        others = [place for place in places if place.words.turn != turn]
        if any(place.begin < end and begin < place.end for place in others):
            raise BadRow(f"turn {turn + 1}: the chat template writes the text of another turn into the reply")
        before = max((place for place in others if place.end <= begin), key=lambda place: place.end, default=None)
        after = min((place.begin for place in others if place.begin >= end), default=len(text))
        start = self._start(finder, turn, text, before, begin, own[0].begin)
        length, stopped = self._end(finder, last.words, text[end:after])
        return (start, end + length), stopped

    def _start(self, finder: Finder, turn: int, text: str, before: Place | None, begin: int, words: int) -> int:
        """Behind what the generation prompt gives; what else stands before the words, the model has to write.

        That may open the thinking (Qwen3-Thinking's, DeepSeek-R1's): then the tag before the words is given.
        """
        previous = before.end if before else 0
        between, prompt = text[previous:words], None
        try:
            if before and before.words.turn < turn:
                prompt = finder.tail_after(before.words, turn, reply_next=True)
            elif turn and not before:
                prompt = self.render(finder.messages[:turn], reply_next=True)
        except BadRow:  # a template need not render the beginning of what it renders whole
            prompt = None
        if prompt is not None and between.startswith(prompt):
            return previous + len(prompt)
        header = self._header
        return previous + between.rindex(header) + len(header) if header and header in between else begin

    @cached_property
    def _header(self) -> str:
        """What the generation prompt adds to a conversation."""
        try:
            asked, alone = self.render(PROBE[:1], reply_next=True), self.render(PROBE[:1])
        except BadRow:
            return ""
        return asked[len(alone) :] if asked.startswith(alone) else ""

    def _end(self, finder: Finder, last: Words, tail: str) -> tuple[int, bool]:
        """How much of the text behind a reply belongs to it, and whether generation stops in it.

        That is what stands there whether or not a turn follows, up to the token that stops; a token that stops right
        behind the words also counts where only one of the two has it (GLM's reply ends with the next role's token).
        """
        alone = tail
        if last.turn < len(finder.messages) - 1:
            try:
                alone = finder.tail_after(last, last.turn + 1) or ""
                alone = alone[_closing(alone, last) :]
            except BadRow:
                alone = ""
        same = tail[: common(tail, alone)]
        ends = [match.end() for match in self.stops.pattern.finditer(same)]
        if ends:
            return ends[-1] + blank(same[ends[-1] :]), True
        space = blank(tail)
        # Behind the last text of a call there are still braces and tags.
        found = self.stops.pattern.search(tail) if last.of_call else self.stops.pattern.match(tail, space)
        if found:
            return found.end(), True
        return (len(same) if same == alone else blank(same)), False

    def _controls(self, words: Sequence[Words]) -> Iterator[str]:
        if self.controls:
            for one in words:
                found = self.controls.search(one.text)
                if found:
                    yield CONTROL.format(token=found[0])


def common(one: str, other: str) -> int:
    """Length of the common beginning of two texts."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def blank(text: str) -> int:
    """How much white space a text begins with."""
    return len(text) - len(text.lstrip())


def _opening(text: str, first: Place) -> int:
    """Where a reply begins in the text: its first words, or the tags (`<think>`) that it has before them."""
    begin = first.begin
    for tag in reversed(first.words.opening):
        before = text[:begin].rstrip()
        if not before.endswith(tag):
            break
        begin = len(before) - len(tag)
    if first.words.thought and not first.words.opening:  # of thinking beside the content the template writes the tag
        tagged = OPENED.search(text, max(0, begin - FAR), begin)
        begin = tagged.start() if tagged and "/" not in tagged[1] else begin
    return begin


def _closing(tail: str, last: Words) -> int:
    """How much of the text behind a reply's last words is the tags that it has behind them."""
    end = 0
    for tag in last.closing:
        space = blank(tail[end:])
        if not tail.startswith(tag, end + space):
            break
        end += space + len(tag)
    return end


def _losses(messages: Sequence[Message], words: Sequence[Words], places: Sequence[Place]) -> Iterator[str]:
    """What is said of words that are not in the render, or not as they are in the row.

    Raises:
        BadRow: they are the words of a question or of a reply.
    """
    there, told = {place.words for place in places}, {one.turn for one in words}
    if any(message["role"] == "user" and turn not in told for turn, message in enumerate(messages)):
        yield EMPTY
    last = max((n for n, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    for one in words:
        role = messages[one.turn]["role"]
        if one in there:
            continue
        if role == "system":
            yield NO_SYSTEM
        elif one.thought:
            yield NO_THINKING if one.turn == last else NO_EARLIER_THINKING
        else:
            what = "a tool call" if one.of_call else "a reply" if role == "assistant" else f"the turn of the {role}"
            raise BadRow(f"turn {one.turn + 1}: the chat template leaves out {what}: {one.text[:60]!r}")
    for place in places:
        if not place.whole:
            yield CHANGED.format(role=messages[place.words.turn]["role"])


def _disorder(messages: Sequence[Message], places: Sequence[Place]) -> Iterator[str]:
    """What is said of words that stand twice, or in another order than in the row."""
    order: dict[Words, int] = {}
    for place in places:
        role = messages[place.words.turn]["role"]
        if place.words not in order:
            order[place.words] = place.words.turn
        elif role == "assistant":
            raise BadRow(f"turn {place.words.turn + 1}: the chat template writes the reply twice")
        else:
            yield REPEATED.format(role=role)
    turns = list(order.values())
    if turns == sorted(turns):
        return
    turns = [turn for turn in turns if messages[turn]["role"] != "system"]
    if turns != sorted(turns):
        wrong = next(b for a, b in pairwise(turns) if b < a)
        raise BadRow(f"turn {wrong + 1}: the chat template changes the order of the turns")
    yield SYSTEM_MOVED
