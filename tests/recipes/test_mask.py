"""Replies are found by their own words, and no word of a conversation is lost without a note."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recipes import mask
from recipes.mask import Reader, Stops
from recipes.stops import for_model, turn_end
from recipes.template import BadRow
from tests.recipes.families import Family, Message

EXAMPLES = settings(max_examples=5000 if os.environ.get("RECIPE_THOROUGH") else 300, deadline=None)
STOPS = ("</s>", "<|im_end|>", "<|end|>", "<eos>", "<|return|>")

# Each end of a reply with what stands after one that is not the last: with loss, and without.
ENDS: list[tuple[str, tuple[str, str] | None]] = [
    ("<|im_end|>\n", None),
    ("</s>", None),
    (" </s>", None),
    ("</s>\n\n", None),
    ("<|end|>\n<eos>", ("<|end|>\n", "")),
    ("<eos>", ("", "\n")),
    ("<|return|>", ("", "<|over|>")),
    ("</s>", ("</s>", "\n")),
    ("\n\n", None),
    ("", None),
]


def stripped(tag: str) -> Callable[[str, bool], tuple[str, str]]:
    return lambda content, last: ("<|assistant|>\n", content.split(f"</{tag}>")[-1])


@st.composite
def families(draw: st.DrawFn) -> Family:
    end, middle = draw(st.sampled_from(ENDS))
    user = draw(st.sampled_from(["<|user|>\n{}<|im_end|>\n", "[INST] {} [/INST]", "### User:\n{}\n\n", "{}\n", "a{}s"]))
    borrowed = "<|user|>" if not end and user.startswith("<|user|>") else ""
    return Family(
        user=user,
        system=draw(st.sampled_from(["<|system|>\n{}<|im_end|>\n", "{}\n\n", "user {}"])),
        system_in=draw(st.sampled_from(["turn", "first"])),
        given=draw(st.sampled_from(["<|assistant|>\n", "### Reply: ", "assistant"])),
        lead=draw(st.sampled_from(["", " ", "<think>\n\n</think>\n\n", "<|channel|>final:"])),
        end=end,
        middle=middle,
        begin=draw(st.sampled_from(["", "<s>"])),
        default=draw(st.sampled_from(["", "You are kind.\n"])),
        glue=draw(st.sampled_from(["", "\n"])) if end and not middle else "",
        borrowed=borrowed,
        trim=draw(st.sampled_from(["", "sua", "a", "u"])),
        reply=draw(st.sampled_from([None, None, stripped("think")])),
    )


TEXTS = st.one_of(
    st.sampled_from(["a", "s", "assistant", "hi hi", "什么", "<|user|>", "</s>", "\n\nx ", " <|im_end|>\n<|user|>"]),
    st.text("ab \n\t<|>/", min_size=1, max_size=8),
    st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "\n", "b c"]), max_size=7).map("".join),
)  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    messages = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(TEXTS)})
        messages.append({"role": "assistant", "content": draw(TEXTS.filter(str.strip))})
    return messages


def renders(family: Family) -> Callable[..., str]:
    """The family as a template: what a Reader sees of it."""

    def render(messages: Sequence[Message], *, reply_next: bool = False) -> str:
        if not messages:
            raise BadRow("the chat template fails: list index out of range")
        turns = list(messages)
        segments = family.segments(turns, False)
        assert segments is not None
        text = "".join(text for text, _ in segments)
        if turns[-1]["role"] == "assistant":
            text = text.removesuffix(family.borrowed)
        return text + (family.glue + family.given if reply_next else "")

    return render


def loss_of(text: str, spans: Sequence[tuple[int, int]]) -> str:
    flags = ["-"] * len(text)
    for start, end in spans:
        flags[start:end] = "+" * (end - start)
    return "".join(flags)


@given(families(), conversations(), st.booleans())
@EXAMPLES
def test_loss_falls_on_each_reply_and_on_nothing_else(family: Family, messages: list[Message], last_only: bool) -> None:
    """Whatever the words are: the template's own, another turn's, tags, control tokens."""
    if family.reply:
        family = replace(family, given="<|assistant|>\n", lead="")
        answers = [m["content"].split("</think>")[-1] for m in messages if m["role"] == "assistant"]
        assume(all(answer.replace("<think>", "").strip() for answer in answers))
    segments = family.segments(messages, last_only)
    assert segments is not None
    reading = Reader(renders(family), Stops(frozenset(STOPS) | {family.borrowed} - {""}, family.borrowed)).read(
        messages, last_only=last_only
    )
    expected = "".join(text for text, _ in segments)
    flags = "".join(("+" if loss else "-") * len(text) for text, loss in segments)
    assert (reading.text, loss_of(reading.text, reading.spans)) == (expected, flags)


LOSSES = ("keep", "keep", "keep", "drop", "twice", "upper", "half", "early")
WORDS = ("alpha beta", "gamma delta", "epsilon zeta", "eta theta", "iota kappa", "lambda mu", "nu xi")


@given(st.lists(st.sampled_from(LOSSES), min_size=7, max_size=7), st.booleans(), st.integers(1, 3))
@EXAMPLES
def test_what_a_template_does_to_words_is_a_note_or_a_bad_row(losses: list[str], system: bool, pairs: int) -> None:
    """A template that drops, repeats, changes, cuts and moves the turns at random."""
    roles = ["system"] * system + ["user", "assistant"] * pairs
    messages = [{"role": role, "content": WORDS[n]} for n, role in enumerate(roles)]

    def render(given: Sequence[Message], *, reply_next: bool = False) -> str:
        parts: list[str] = []
        for message, loss in zip(given, losses, strict=False):
            text = message["content"]
            shown = {"drop": "", "upper": text.upper(), "half": text[: len(text) // 2]}.get(loss, text)
            turn = f"<{message['role']}>" + shown + "</s>"
            parts.insert(0, turn) if loss == "early" else parts.append(turn * (1 + (loss == "twice")))
        return "".join(parts) + "<assistant>" * reply_next

    try:
        reading = Reader(render, Stops(frozenset(["</s>"]))).read(messages, last_only=False)
    except BadRow:
        return
    places = [reading.text.find(message["content"]) for message in messages]
    whole = all(reading.text.count(message["content"]) == 1 for message in messages) and places == sorted(places)
    assert whole == (not reading.notes)
    replies = [message["content"] for message in messages if message["role"] == "assistant"]
    assert len(reading.spans) == len(replies)
    for (start, end), reply in zip(reading.spans, replies, strict=True):
        learned = reading.text[start:end]
        assert learned.lower().startswith(reply[: len(reply) // 2])
        assert not any(
            word in learned for other in messages if other["content"] != reply for word in [other["content"]]
        )
        assert learned.endswith("</s>")


CHATML = Family(
    user="<|im_start|>user\n{}<|im_end|>\n", system="<|im_start|>system\n{}<|im_end|>\n",
    given="<|im_start|>assistant\n", end="<|im_end|>\n",
)  # fmt: skip


def chat(*texts: str, system: str = "") -> list[Message]:
    roles = ["user", "assistant"] * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def read(render: Callable[..., str], messages: list[Message]) -> mask.Reading:
    return Reader(render, Stops(frozenset(STOPS))).read(messages, last_only=False)


def test_a_template_that_looks_at_the_words_is_marked_otherwise() -> None:
    """Qwen3 asks whether a user's turn begins and ends with a tag, and others write a text's length."""

    def render(messages: Sequence[Message], *, reply_next: bool = False) -> str:
        shown = [
            f"<tool {len(m['content'])}>{m['content']}<|im_end|>" if m["content"].startswith("<tool_response>")
            else f"<{m['role']}>{m['content']}<|im_end|>"
            for m in messages
        ]  # fmt: skip
        return "".join(shown) + "<assistant>" * reply_next

    called = "<tool_response>21</tool_response>"
    reading = read(render, chat(called, f"It gave {called}.", "and there?", "22"))
    assert [reading.text[a:b] for a, b in reading.spans] == [f"It gave {called}.<|im_end|>", "22<|im_end|>"]
    assert reading.notes == ()


def test_private_characters_in_a_row_are_text_like_any_other() -> None:
    text = "logo \U000f0000 \U000f0001"
    reading = read(renders(CHATML), chat(text, text))
    assert [reading.text[a:b] for a, b in reading.spans] == [text + "<|im_end|>\n"]


@pytest.mark.parametrize(
    "change,complaint",
    [
        (lambda turns: turns[1:], "leaves out the turn of the user: 'one'"),
        (lambda turns: turns[:-1], "leaves out a reply: 'four'"),
        (lambda turns: [*turns, turns[1]], "turn 2: the chat template writes the reply twice"),
        (lambda turns: [turns[2], turns[3], turns[0], turns[1]], "changes the order of the turns"),
    ],
)
def test_a_question_or_reply_that_is_lost_is_refused(change: Any, complaint: str) -> None:
    def render(messages: Sequence[Message], *, reply_next: bool = False) -> str:
        turns = [f"{m['content']}<|im_end|>" for m in messages]
        return "".join(change(turns) if len(turns) == 4 else turns)

    with pytest.raises(BadRow, match=complaint):
        read(render, chat("one", "two", "three", "four"))


def test_reasoning_beside_a_reply_is_trained_or_its_loss_is_said() -> None:
    message = {"role": "assistant", "content": "51", "reasoning_content": "30 + 21"}
    row = [*chat("17 * 3?"), message]
    assert read(renders(CHATML), row).notes == (mask.NO_THINKING,)

    def render(messages: Sequence[Message], *, reply_next: bool = False) -> str:
        thought = [f"<think>{m['reasoning_content']}</think>" if "reasoning_content" in m else "" for m in messages]
        turns = [f"<{m['role']}>{t}{m['content']}<|im_end|>" for m, t in zip(messages, thought, strict=True)]
        return "".join(turns) + "<assistant>" * reply_next

    reading = read(render, row)
    assert reading.notes == ()
    assert [reading.text[a:b] for a, b in reading.spans] == ["<think>30 + 21</think>51<|im_end|>"]
    assert [reading.text[a:b] for a, b in reading.thoughts] == ["30 + 21"]


@pytest.mark.parametrize("reply", [{"content": "<think>\n30 + 21\n</think>51"}, {"reasoning_content": "30 + 21"}])
def test_a_tag_that_the_generation_prompt_gives_has_no_loss(reply: dict[str, str]) -> None:
    """Qwen3-Thinking's and DeepSeek-R1's prompts open the thinking."""

    def render(messages: Sequence[Message], *, reply_next: bool = False) -> str:
        block = "<think>\n{}\n</think>"
        thought = [block.format(m["reasoning_content"]) if "reasoning_content" in m else "" for m in messages]
        turns = [f"<{m['role']}>{t}{m['content']}<|im_end|>" for m, t in zip(messages, thought, strict=True)]
        return "".join(turns) + "<assistant><think>\n" * reply_next

    reading = read(render, [*chat("17 * 3?"), {"role": "assistant", "content": "51", **reply}])
    assert [reading.text[a:b] for a, b in reading.spans] == ["30 + 21\n</think>51<|im_end|>"]
    reading = read(render, chat("17 * 3?", "51"))  # which no prompt of this template asks for
    assert [reading.text[a:b] for a, b in reading.spans] == ["51<|im_end|>"]


def test_a_template_without_a_generation_prompt_is_told() -> None:
    """Its reply has to write its own header, in the training as when it is asked; white space is none."""

    def render(messages: Sequence[Message], *, reply_next: bool = False, header: str = "ASSISTANT:") -> str:
        named = {"user": "USER:", "assistant": header}
        return "".join(f"{named[one['role']]} {one['content']}<|im_end|>\n" for one in messages)

    said = (("user", "hi"), ("assistant", "hello"), ("user", "and?"), ("assistant", "bye"))
    row = [{"role": role, "content": text} for role, text in said]
    reading = read(render, row)
    assert reading.notes == (mask.NO_PROMPT.format(header="'ASSISTANT:'"),)
    assert [reading.text[a:b] for a, b in reading.spans] == [
        "ASSISTANT: hello<|im_end|>\n", "ASSISTANT: bye<|im_end|>\n"
    ]  # fmt: skip
    assert read(lambda *given, **how: render(*given, **how, header=""), row).notes == ()


@pytest.mark.parametrize("empty", ["", " \n"])
def test_a_turn_of_the_user_without_words_is_told(empty: str) -> None:
    def render(messages: Sequence[Message], *, reply_next: bool = False) -> str:
        turns = [f"<{one['role']}>{one['content']}<|im_end|>" for one in messages]
        return "".join(turns) + "<assistant>" * reply_next

    said = (("user", "hi"), ("assistant", "hello"), ("user", empty), ("assistant", "bye"))
    reading = read(render, [{"role": role, "content": text} for role, text in said])
    assert reading.notes == (mask.EMPTY,)
    assert [reading.text[a:b] for a, b in reading.spans] == ["hello<|im_end|>", "bye<|im_end|>"]


TOKENS = {"<|im_start|>": 1, "<|im_end|>": 2, "<|endoftext|>": 0, "<|user|>": 3, "</s>": 4}


@pytest.mark.parametrize(
    "family,eos,generation,added,ids",
    [
        (CHATML, 2, [2], "", ()),
        (CHATML, 0, [0], "<|im_end|>", (0, 2)),  # a base model
        (CHATML, 2, [0], "<|im_end|>", (0, 2)),  # the tokenizer knows it, and generation does not ask the tokenizer
        (CHATML, 0, [], "<|im_end|>", (0, 2)),
        (CHATML, None, [], "<|im_end|>", (2,)),
        (replace(CHATML, end="<|im_end|>\n<|endoftext|>", middle=("<|im_end|>\n", "")), 0, [0], "<|im_end|>", (0, 2)),
        (replace(CHATML, end="<|endoftext|>", middle=("", "\n")), 0, [0], "", ()),
        (Family(user="<|user|>{}", given="A:"), 0, [0], "<|user|>", (0, 3)),
        (Family(user="<|user|>{}", given="A:"), 0, [0, 3], "", ()),
        (Family(user="U:{}\n", given="A:", end="\n"), 0, [0], "", ()),
    ],
)
def test_the_end_of_a_turn_is_held_against_where_generation_stops(
    family: Family, eos: int | None, generation: list[int], added: str, ids: tuple[int, ...]
) -> None:
    found = turn_end(renders(family), TOKENS, eos, generation)
    assert (found.added, found.ids) == (added, ids)


def test_a_template_without_a_token_that_ends_a_reply_is_told() -> None:
    found = turn_end(renders(replace(CHATML, end="<|stop|>\n")), TOKENS, 0, [0])
    assert "'<|stop|>' is not one token of this tokenizer" in found.notes[0]


def test_a_template_that_wants_a_system_prompt_has_an_end_too() -> None:
    def render(messages: Sequence[Message], *, reply_next: bool = False) -> str:
        if messages[0]["role"] != "system":
            raise BadRow("the chat template refuses it: no system prompt")
        return renders(CHATML)(messages, reply_next=reply_next)

    assert turn_end(render, TOKENS, 0, [0]).added == "<|im_end|>"


def test_a_beginning_of_sequence_that_stands_twice_is_told() -> None:
    found = turn_end(renders(replace(CHATML, begin="<s><s>")), TOKENS, 2, [2], "<s>")
    assert found.notes == ("the chat template begins a conversation with <s> twice",)


@pytest.mark.parametrize(
    "family,template,tokenizer",
    [
        (CHATML, "{{ m.content }}<|im_end|>", True),
        (CHATML, "{{ m.content }}<|im_end|>{{ eos_token if loop.last }}", False),
        (Family(user="<|user|>{}", given="A:"), "<|user|>", False),
    ],
)
def test_the_tokenizers_own_end_changes_only_where_no_text_does(family: Family, template: str, tokenizer: bool) -> None:
    found = for_model(turn_end(renders(family), TOKENS, 0, [0]), template)
    assert found is not None and found["tokenizer"] is tokenizer


def test_a_model_that_knows_its_turns_end_stays_as_it_is() -> None:
    assert for_model(turn_end(renders(CHATML), TOKENS, 2, [2]), "") is None
