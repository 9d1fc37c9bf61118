"""Thoughts of models: told from their answers in the forms that real templates have, and never scored."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.engines.requests import Generate
from eval.metrics.thoughts import as_answer, opened, parted, reply_text, without
from recipes.words import TAG

WORDS = st.text(st.sampled_from("ab <>/[]\nthink"), max_size=30).filter(lambda text: not TAG.search(text))
FORMS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
]


class Words:
    """A tokenizer of single words; those in angle brackets or bars are control tokens."""

    def __init__(self, words: Sequence[str], special: Sequence[str]) -> None:
        self.words = list(words)
        self.all_special_ids = [n for n, word in enumerate(words) if word in special]

    def convert_ids_to_tokens(self, n: int) -> str:
        return self.words[n]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return "".join(self.words[n] for n in ids if not (skip_special_tokens and n in self.all_special_ids))


@pytest.mark.parametrize(
    "reply,tag,expected",
    [
        ("<think>\nTwo and two.\n</think>\n\n4", "", ("Two and two.", "4")),  # Qwen3
        ("<think>\n\n</think>\n\n4", "", ("", "4")),  # Qwen3 with enable_thinking: false, where the model writes it
        ("Two and two.\n</think>\n\n4", "<think>", ("Two and two.", "4")),  # DeepSeek-R1: the prompt ends with <think>
        ("<think>\nTwo and", "", None),
        ("Two and", "<think>", None),
        ("4", "", ("", "4")),
        ("A <think> tag.", "", ("", "A <think> tag.")),  # words about tags are no thought
        ("It ends with </think>.", "", ("", "It ends with </think>.")),
        ("[THINK]Two.[/THINK]4", "", ("Two.", "4")),  # Mistral
        ("<|channel|>analysis<|message|>Two.assistant<|channel|>final<|message|>4", "",
         ("<|channel|>analysis<|message|>Two.", "4")),  # gpt-oss
        ("<|channel|>analysis<|message|>Two.", "", None),
        ("<think>a</thinking>b</think>c", "", ("a</thinking>b", "c")),
        ("", "", ("", "")),
    ],
)  # fmt: skip
def test_real_forms(reply: str, tag: str, expected: tuple[str, str] | None) -> None:
    assert parted(reply, tag) == expected


@given(thought=WORDS, answer=WORDS, form=st.sampled_from(FORMS), by_prompt=st.booleans(), ends=st.booleans())
def test_whatever_is_thought_and_answered(
    thought: str, answer: str, form: tuple[str, str], by_prompt: bool, ends: bool
) -> None:
    begin, end = form
    reply = ("" if by_prompt else begin) + thought + (end + answer if ends else "")
    found = parted(reply, begin if by_prompt else "")
    assert found == ((thought.strip(), answer.lstrip()) if ends else None)


@given(reply=WORDS)
def test_a_reply_without_tags_is_left_as_it_is(reply: str) -> None:
    assert without({"text": reply, "tokens": 3}, "") == {"text": reply, "tokens": 3}


def test_a_thought_without_end_is_a_failure_with_its_reason() -> None:
    assert without({"text": "<think> on and on", "tokens": 7}, "") == {
        "error": "unfinished_thought: no end within 7 tokens (eval.max_new_tokens; or eval.thinking: off)"
    }
    assert without({"nll": 1.0, "tokens": 7}, "<think>") == {"nll": 1.0, "tokens": 7}
    assert without({"error": "no numbers"}, "<think>") == {"error": "no numbers"}


def test_tags_that_are_control_tokens_are_not_lost() -> None:
    words = ["<s>", "[THINK]", "[/THINK]", "two", "4", "</s>", "<|channel|>", "<|message|>", "<|end|>", "final"]
    special = Words(words, ["<s>", "[THINK]", "[/THINK]", "</s>", "<|channel|>", "<|message|>", "<|end|>"])
    assert reply_text(special, [1, 3, 2, 4, 5]) == "[THINK]two[/THINK]4"
    assert reply_text(special, [3, 4, 5]) == "two4"
    assert (
        reply_text(special, [6, 3, 7, 3, 8, 6, 9, 7, 4]) == "<|channel|>two<|message|>two<|channel|>final<|message|>4"
    )


@pytest.mark.parametrize(
    "prompt,expected",
    [
        (["<|User|>", "hi", "<|Assistant|>", "<think>", "\n"], "<think>"),  # DeepSeek-R1
        (["<|im_start|>", "assistant", "\n", "<think>", "\n\n", "</think>", "\n\n"], ""),  # Qwen3, thinking off
        (["<|im_start|>", "assistant", "\n"], ""),
        (["what is", "<think>", " for?", "assistant", "\n"], ""),
        ([], ""),
    ],
)
def test_what_a_prompt_has_opened(prompt: list[str], expected: str) -> None:
    tokenizer = Words(prompt, [word for word in prompt if word.startswith("<|")])
    assert opened(tokenizer, range(len(prompt))) == expected


VOCABULARY = ["<think>", "</think>", "a", "b", "\n", "."]
WORDS_ONLY = st.lists(st.sampled_from([2, 3, 4]), max_size=8)


@given(
    thought=st.none() | WORDS_ONLY,
    answer=WORDS_ONLY,
    by_prompt=st.booleans(),
    ended=st.booleans(),
    thought_room=st.integers(1, 8),
    room=st.integers(1, 8),
    stops=st.booleans(),
)
def test_thought_and_answer_have_rooms_of_their_own(
    thought: list[int] | None,
    answer: list[int],
    by_prompt: bool,
    ended: bool,
    thought_room: int,
    room: int,
    stops: bool,
) -> None:
    """What is kept is what two questions would give: one for the thought, and one for the answer after it."""
    tokenizer, line = Words(VOCABULARY, ["<think>", "</think>"]), 4
    begun = [] if by_prompt or thought is None else [0]
    prompt = [2, 0] if by_prompt and thought is not None else [2]
    before = [] if thought is None else [*begun, *thought, 1]
    stop = frozenset({line} if stops else ())
    request = Generate(ids=prompt, max_new_tokens=room, stop=stop, max_thought_tokens=thought_room)
    made = [*before, *answer][: request.most]
    found = as_answer(tokenizer, request, made, ended and len(made) < request.most)
    if len(before) > thought_room:
        assert "error" in without(found, "<think>" if by_prompt else "")
        assert found["tokens"] == thought_room or not ended
        return
    left = made[len(before) :]
    while stops and left[:1] == [line]:
        left = left[1:]
    whole = left[: left.index(line)] if stops and line in left else left
    text = "".join(VOCABULARY[n] for n in whole[:room])
    told = without(found, "<think>" if by_prompt and thought is not None else "")
    assert told["text"].lstrip() == text.lstrip()
    stopped = (ended and len(made) < request.most) or whole != left
    assert found["finished"] == (stopped and len(whole) < room)


def test_without_a_room_for_thoughts_nothing_is_cut() -> None:
    tokenizer = Words(VOCABULARY, [])
    request = Generate(ids=[2], max_new_tokens=9)
    assert as_answer(tokenizer, request, [0, 2, 1, 3], True) == {
        "text": "<think>a</think>b", "tokens": 4, "finished": True,
    }  # fmt: skip
    assert "max_thought_tokens" not in request.key() and request.most == 9
