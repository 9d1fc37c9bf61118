"""Turns a raw row of each data format into the one canonical row of its method.

Canonical rows (TRL's conversational form; a message is {"role", "content"}):

    sft        {"messages": [...]}; a reply may have reasoning_content, tool_calls and weight (0: no loss), the first
               turn the conversation's tools
    dpo, orpo  {"prompt": [...], "chosen": [message], "rejected": [message]}
    kto        {"prompt": [...], "completion": [message], "label": true | false}
    grpo       {"prompt": [...], "answer": text}
    pretrain   {"text": text}

A new format is one function and one line in FORMATS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from recipes.columns import COLUMNS_OF_FORMAT
from recipes.encode import BadRow, Message
from recipes.methods import METHODS
from recipes.types import Source
from recipes.words import texts_in
from runner.data import honoured, longbench
from runner.data.calls import tools_of
from runner.data.columns import lacking, meant, plain, renamed
from runner.data.fields import Fields, dialogue, loaded, text, tools_key, turns
from runner.data.honoured import blank, empty
from runner.data.irregular import Policy
from runner.data.margin import hold_margin
from runner.data.ranked import ranked
from runner.data.tagged import TOLD_TWICE, told_in
from runner.data.turns import (
    PROMPTS,
    assistant_turn,
    continued,
    given,
    prompt_before,
    prompt_of,
    question,
    reply_messages,
    reply_of,
    text_reply,
    user_turn,
)

Raw = dict[str, Any]

GOOD = ("good", "desirable", "chosen", "yes", "thumbs_up", "thumbs up", "+1", "👍", "up", "like", "positive", "correct")
BAD = ("bad", "undesirable", "rejected", "no", "thumbs_down", "thumbs down", "-1", "-1.0", "👎", "down", "dislike")
LABELS = {**dict.fromkeys(GOOD, True), **dict.fromkeys((*BAD, "negative", "incorrect"), False)}
REPLIES = ("completion", "messages", "conversations", "response", "output")  # what a label is about
SHADES = dict.fromkeys([*range(0x1F3FB, 0x1F400), 0xFE0F])  # a thumb's colour, and that it is drawn as a picture


class Converted(NamedTuple):
    """A canonical row, the names of what the raw one held besides, and what was done to it."""

    row: Raw
    unused: set[str]
    notes: list[str]


def alpaca(row: Fields) -> Raw:
    """{"instruction": "Define APR.", "input": "", "output": "The yearly …", "system": "…", "history": [["q", "a"]]}"""
    asked = question(row)
    messages: list[Message] = []
    history = loaded(row.get("history"))
    for turn in [] if empty(history) else history:
        if not (isinstance(turn, (list, tuple)) and len(turn) == 2 and all(isinstance(t, str) for t in turn)):
            raise BadRow("history must be a list of [question, answer]")
        messages += [user_turn(turn[0]), assistant_turn(turn[1])]
    return {"messages": [*messages, user_turn(asked), text_reply(row, "output")]}


def prompt_response(row: Fields) -> Raw:
    """{"prompt": "Define APR.", "response": "The yearly …"}; both may be message lists, and response completion"""
    key = given(row, "response", "completion")
    prompt, replies = prompt_of(row), reply_messages(row, key)
    if not replies:
        return {"messages": [*prompt, text_reply(row, key)]}
    return {"messages": continued(row, prompt, turns(row, replies, key), f"prompt and {key}")}


class HalfCharacter(BadRow):
    """A row that only lacks half of one of its characters; `row` is the rest of it in canonical form."""

    def __init__(self, text: str, row: Raw) -> None:
        super().__init__(text)
        self.row = row


def messages(row: Fields) -> Raw:
    """{"messages": [{"role": "user", "content": "Define APR."}, {"role": "assistant", "content": "…"}]}"""
    return {"messages": dialogue(row, row.get("messages"), "messages")}


def conversations(row: Fields) -> Raw:
    """{"conversations": [{"from": "human", "value": "Define APR."}, {"from": "gpt", "value": "…"}], "system": "…"}"""
    return {"messages": dialogue(row, row.get("conversations"), "conversations")}


def preference(row: Fields) -> Raw:
    """{"prompt": "…", "chosen": "…", "rejected": "…"}; they may be message lists that hold the prompt."""
    chosen, prompt = reply_of(row, "chosen")
    rejected, other = reply_of(row, "rejected")
    if prompt and other and prompt != other:
        raise BadRow("chosen and rejected begin with different prompts")
    if chosen == rejected:
        raise BadRow("chosen and rejected are equal: nothing to prefer")
    return {"prompt": prompt_before(row, prompt or other, chosen), "chosen": [chosen], "rejected": [rejected]}


def feedback(row: Fields) -> Raw:
    """{"prompt": "…", "completion": "…", "label": true}; or a list of messages that ends on the reply, and label"""
    key = given(row, *REPLIES)
    if key not in row:
        raise BadRow(f"{lacking(row, key)}; the reply that a label is about is one of {', '.join(REPLIES)}")
    reply, prompt = reply_of(row, key)
    told = row.get(given(row, "label", "kto_tag"))
    if empty(told):
        raise BadRow("no label: it says whether the reply is a good one, true or false")
    label = LABELS.get(str(told).strip().lower().translate(SHADES), honoured.truth(told))
    if label is None:
        raise BadRow(f"label is {str(told)[:60]!r}; allowed: true or false, or {', '.join(LABELS)}")
    return {"prompt": prompt_before(row, prompt, reply), "completion": [reply], "label": label}


def prompts(row: Fields) -> Raw:
    """{"prompt": "What is 2 + 2?", "answer": "4"}; without an answer where no reward looks at one"""
    return {"prompt": prompt_of(row), "answer": text(row, "answer", optional=True)}


def document(row: Fields) -> Raw:
    """{"text": "The yearly cost of a loan …"}"""
    return {"text": text(row, "text")}


FORMATS: dict[str, Callable[[Fields], Raw]] = {
    "alpaca": alpaca,
    "prompt_response": prompt_response,
    "messages": messages,
    "conversations": conversations,
    "preference": preference,
    "ranked": ranked,
    "feedback": feedback,
    "prompts": prompts,
    "text": document,
    "longbench": longbench.conversation,
}

OF_CLASSES = "for a text and its class, set format: alpaca and columns: {instruction: YOUR TEXT, output: label}"

# What a text prompt goes with elsewhere, and which only alpaca reads.
OF_ALPACA = ("input", "history")
WITH_TEXT_PROMPT = ("prompt_response", "preference", "ranked", "feedback", "prompts")

# The keys by which `auto` tells a format, the surest first.
_KEYS = (
    ("messages", ("messages",)),
    ("conversations", ("conversations",)),
    ("alpaca", ("instruction", "output")),
    ("prompt_response", ("prompt", "response")),
    ("prompt_response", ("prompt", "completion")),
    ("preference", ("chosen", "rejected")),
    ("feedback", ("label",)),
    ("feedback", ("kto_tag",)),
    ("ranked", ("completions",)),
    ("ranked", ("responses",)),
    *(("prompts", (key,)) for key in PROMPTS),
    ("text", ("text",)),
)


def detect(row: Any, method: str, columns: Mapping[str, str] | None = None) -> str:
    """The format of a row, told from its keys, those of `columns` (ours to theirs) among them.

    Raises:
        BadRow: no format of the method has these keys.
    """
    choices = [(name, keys) for name, keys in _KEYS if name in METHODS[method].rows.formats]
    if isinstance(row, dict):
        there = {*row, *(columns or {})}
        full = {key for key in there if not empty(row.get((columns or {}).get(key, key)))}
        for known in (full, there):  # tables give every row every key
            for name, keys in choices:
                if known.issuperset(keys):
                    return name
    wanted = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in choices)
    found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
    there = set(map(plain, row)) if isinstance(row, dict) else set()
    near = (meant(row, (*keys, *COLUMNS_OF_FORMAT[name])) for name, keys in choices if there.issuperset(keys))
    advice = next(near, f"; {OF_CLASSES}" if "label" in there else "; or map yours with `columns`")
    raise BadRow(f"no {method} format has these keys: {found[:200]}; known: {wanted}{advice}")


# In this order: preferences have a prompt too, and documents may stand beside one.
GUESSED = ("dpo", "kto", "sft", "grpo", "pretrain")


def guess(row: Any) -> tuple[str, str] | None:
    """The method that a row by itself seems to be for, and its format; None where no method has such rows.

    Names in capitals are taken for ours, so that what is said of the row is about what it seems to be.
    """
    if not isinstance(row, dict):
        return None
    for one in (row, {plain(key): value for key, value in row.items()}):
        for method in GUESSED:
            with suppress(BadRow):
                found = method, detect(one, method)
                # Questions alone, under any other name, may as well be rows whose replies have names that nobody knows.
                if (method != "grpo" or "prompt" in one) and (method != "kto" or _of_feedback(one)):
                    return found
    return None


def _of_feedback(row: Raw) -> bool:
    """Whether a row with a label may be feedback: a classifier's rows have one too, and neither prompt nor reply."""
    return not {*REPLIES, *PROMPTS}.isdisjoint(key for key, value in row.items() if not empty(value))


def convert(row: Any, format_name: str, source: Source, irregular: Policy = "error") -> Converted:
    """The canonical row of a raw one, with the source's column names and system prompt applied.

    Raises:
        Irregular: it is a conversation to be dropped as one that does not alternate.
        BadRow: the row is malformed, or says something that would not be honoured.
    """
    try:
        return _converted(row, format_name, source, irregular)
    except RecursionError:
        raise BadRow("nested too deep") from None


def _converted(row: Any, format_name: str, source: Source, irregular: Policy) -> Converted:
    if not isinstance(row, dict):
        raise BadRow(f"a row must be a mapping, not {type(row).__name__}")
    values, origins = renamed(row, source.columns)
    fields = Fields(values, irregular)
    result = FORMATS[format_name](fields)
    if source.min_margin is not None:
        hold_margin(fields, format_name, source.min_margin)
    if format_name != "text":
        _finish(result, fields, source, tools=format_name != "prompts")
    used = {theirs for key in fields.read for theirs in origins.get(key, (key,))}
    unused = honoured.refuse(row, used, replies=format_name not in ("prompts", "text"))
    for key in OF_ALPACA if format_name in WITH_TEXT_PROMPT else ():
        said = row.get(key)
        if key not in used and not (blank(said) if isinstance(said, str) and key == "input" else empty(said)):
            raise BadRow(
                f"{key!r} beside the prompt is not honoured; set format: alpaca and map its columns, or remove it"
            )
    _check_text(result)
    return Converted(result, unused | fields.unused, fields.notes)


def _finish(row: Raw, fields: Fields, source: Source, *, tools: bool) -> None:
    """Give a conversation its system prompt and its tools."""
    begun = row.get("messages") or row["prompt"]
    _add_system(begun, fields, source.system)
    if tools and (key := tools_key(fields)):
        begun[0]["tools"] = tools_of(fields.get(key), fields.notes)
        if told_in(begun[0]):
            fields.notes.append(TOLD_TWICE)
    fields.read.add("parallel_tool_calls")  # how a model was asked, which no text shows
    if not any(turn["role"] == "user" for turn in begun):
        raise BadRow("no turn of a user: there is nothing that the reply answers")


def _add_system(messages: list[Message], row: Fields, default: str | None) -> None:
    own = text(row, "system", optional=True)
    if messages[0]["role"] != "system":
        if own.strip() or default:
            messages.insert(0, {"role": "system", "content": own if own.strip() else str(default)})
    elif own.strip() and own != messages[0]["content"]:
        raise BadRow("'system' is not honoured: the messages begin with another system prompt")


def _check_text(row: Raw) -> None:
    """Half of a pair of UTF-16, which JSON can write and no tokenizer reads."""
    for key, value in row.items():
        for _, said in texts_in(value):
            try:
                said.encode()
            except UnicodeEncodeError as error:
                code = f"\\u{ord(said[error.start]):04x}"
                where = f"{code} at character {error.start + 1}"
                raise HalfCharacter(
                    f"{key} holds half a character (a text cut inside an emoji?); {where}", row
                ) from None
