"""Renders conversations by a chat template, which may be anybody's: bounded in time, and every fault is a sentence."""

from __future__ import annotations

import faulthandler
import re
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from types import FrameType
from typing import Any

from recipes import calls
from recipes.calls import Message
from recipes.errors import UserError, did_you_mean

LIMIT_S = 20.0  # for one conversation; the slowest real one takes milliseconds


class BadRow(Exception):
    """A malformed row; the text says what is wrong with it."""


class _TookTooLong(BaseException):
    """No Exception: nothing between the template and us may take it for its own."""


class Template:
    """A tokenizer's chat template, or another in its place.

    Args:
        tokenizer: of transformers; it renders.
        text: Jinja text in place of the tokenizer's own, or None.
        variables: given to the template (`enable_thinking`, …).
        parts: the roles whose content the template wants as a list of parts, not as text.
        name: where it comes from, for messages.
    """

    def __init__(
        self,
        tokenizer: Any,
        text: str | None,
        variables: dict[str, Any],
        parts: frozenset[str] = frozenset(),
        name: str = "the chat template",
    ) -> None:
        self.tokenizer = tokenizer
        self.text = text
        self.variables = variables
        self.parts = parts
        self.name = name

    def render(self, messages: Sequence[Message], *, reply_next: bool = False) -> str:
        """The text of a conversation.

        Raises:
            BadRow: the template refuses the conversation, or fails on it.
            UserError: it came to no end, which no other row would mend.
        """
        tools = messages[0].get("tools") if messages else None
        if tools and not self._tells_tools:
            raise BadRow(calls.UNKNOWN_TOOLS)
        return self._render([self.shape(message) for message in messages], tools, reply_next=reply_next)

    def _render(self, messages: Sequence[Message], tools: Sequence[Message] | None, *, reply_next: bool = False) -> str:
        try:
            with _limited(LIMIT_S):
                return str(
                    self.tokenizer.apply_chat_template(
                        messages,
                        tools=tools,
                        chat_template=self.text,
                        tokenize=False,
                        add_generation_prompt=reply_next,
                        **self.variables,
                    )
                )
        except _TookTooLong:
            text = f"it came to no end within {LIMIT_S:g} s on one conversation; look for its loops"
            raise UserError(f"{self.name}: {text}") from None
        except Exception as error:  # a template is a program: it may raise anything
            raise BadRow(_sentence(error)) from error

    def shape(self, message: Message) -> Message:
        """A message as the template takes it.

        Raises:
            BadRow: it calls tools, and the template writes no calls.
        """
        shaped = {key: value for key, value in message.items() if key not in ("tools", "weight")}
        if "tool_calls" in shaped:
            if self._arguments_as_text is None:
                raise BadRow(calls.UNKNOWN_CALLS)
            shaped = calls.as_text(shaped) if self._arguments_as_text else shaped
        if message["role"] in self.parts:
            shaped["content"] = [{"type": "text", "text": message["content"]}]
        if "reasoning_content" in shaped:
            shaped[self._thought_key] = shaped.pop("reasoning_content")
        return shaped

    @cached_property
    def _thought_key(self) -> str:
        """The key under which the template reads a reply's thinking; gpt-oss's is another than most."""
        for key in ("reasoning_content", "reasoning", "thinking"):
            probe = [self.shape(message) for message in PROBE]
            probe[-1][key] = THOUGHT
            with suppress(BadRow):
                if THOUGHT in self._render(probe, None):
                    return key
        return "reasoning_content"

    @cached_property
    def _arguments_as_text(self) -> bool | None:
        return calls.arguments_as_text(self._render, BadRow)

    @cached_property
    def writes_the_date(self) -> bool:
        """Whether the text depends on the day, or the second, by `strftime_now`."""
        moments = [self.variables | {"strftime_now": lambda _, moment=moment: moment} for moment in ("1 May", "2 June")]
        try:
            texts = {Template(self.tokenizer, self.text, one, self.parts).render(PROBE) for one in moments}
        except BadRow:  # it wants a system prompt, say: rows tell
            return False
        return len(texts) > 1

    @property
    def unread(self) -> list[str]:
        """What is to be said of each variable that the template does not even name, and which changes nothing."""
        own = self.text or str(getattr(self.tokenizer, "chat_template", None) or "")
        named = set(re.findall(r"[^\W\d]\w*", own))
        unread = (name for name in self.variables if name not in named)
        return [f"{name}: the chat template reads no such variable{did_you_mean(name, named)}" for name in unread]

    @cached_property
    def _tells_tools(self) -> bool:
        return calls.tells_tools(self._render, BadRow)


def _sentence(error: Exception) -> str:
    """What went wrong in a template, and at which of its lines."""
    first = (str(error).strip().splitlines() or [""])[0][:200]
    if type(error).__name__ == "TemplateError":  # what `raise_exception` of a template raises
        return f"the chat template refuses it: {first}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    place = f" at its line {line}" if line else ""
    return f"the chat template fails{place}: {type(error).__name__}{': ' * bool(first)}{first}"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Ends what takes longer. Signals reach the main thread only: elsewhere there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise _TookTooLong

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


QUESTION, REPLY, RULES = "\U000f0001question\U000f0002", "\U000f0003reply\U000f0004", "\U000f0005rules\U000f0006"
THOUGHT = "\U000f0007thought\U000f0008"
PROBE: tuple[Message, ...] = ({"role": "user", "content": QUESTION}, {"role": "assistant", "content": REPLY})


def shaped(template: Template) -> Template:
    """The template with content in the shape that it wants: text, or for some roles parts.

    Raises:
        BadRow: it shows the words of a conversation in neither shape, or fails on both.
    """
    # What Python cannot interrupt (`9 ** 9 ** 9` is one step of it) ends the process; runner/diagnose.py explains that.
    faulthandler.dump_traceback_later(2 * LIMIT_S, exit=True, file=2)
    try:
        return _shaped(template)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _shaped(template: Template) -> Template:
    every = frozenset(("system", "user", "assistant", "tool"))
    # Text first: a template that takes both is mostly used with text.
    shapes = (frozenset[str](), every, every - {"assistant"}, frozenset({"assistant"}))
    errors: list[str] = []
    # Some templates want a system prompt, some none; some (of translators) know a user's turn alone.
    for probe in (PROBE, ({"role": "system", "content": RULES}, *PROBE), PROBE[:1]):
        for parts in shapes:
            one = Template(template.tokenizer, template.text, template.variables, parts, template.name)
            error = _missing(one, probe)
            if not error:
                return one
            errors.append(error)
    raise BadRow(f"{template.name}: on a user's turn and its reply, {errors[0]}")


def _missing(template: Template, probe: Sequence[Message]) -> str:
    """Why the words of a probe cannot be seen in its render, or nothing."""
    try:
        text = template.render(probe)
    except BadRow as error:
        return str(error)
    lost = [message["role"] for message in probe if message["role"] != "system" and message["content"] not in text]
    return f"the chat template leaves out the text of {' and '.join(lost)}" if lost else ""
