"""Formats: each raw row gives the canonical row of its method, or says what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from recipes.encode import BadRow
from runner.data.formats import FORMATS, convert, detect, guess
from runner.data.spec import source_of

PLAIN = source_of("rows.jsonl")


NAN, INF = float("nan"), float("inf")


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return [user("q"), {**assistant("a"), "extra": value}]


HH = "\n\nHuman: Hi\n\nAssistant: Hello."
CHAT_TEXT = json.dumps([user("Hi"), assistant("a")])
PERSON = '{"role": "admin", "content": "x"}'
LETTERS = '[{"from": "Alice", "to": "Bob"}]'
ANSWERED = {"messages": [user("q"), assistant("a")]}
ASKED = [user("q\nx"), assistant("a")]
REJECTED = '{"from": "gpt", "value": "b"}'
PAIR = {"prompt": ASKED[:1], "chosen": ASKED[1:], "rejected": [assistant("b")]}
LIKED = {"prompt": ASKED[:1], "completion": ASKED[1:], "label": True}
GOOD = [
    ("alpaca", {"instruction": "q", "input": "", "output": "a"}, {"messages": [user("q"), assistant("a")]}),
    ("alpaca", {"instruction": "q", "output": "a"}, {"messages": [user("q"), assistant("a")]}),
    ("alpaca", {"instruction": "q", "input": "x", "output": "a"}, {"messages": [user("q\nx"), assistant("a")]}),
    (
        "alpaca",
        {"instruction": "q", "output": "a", "system": "s", "history": [["h", "r"]]},
        {"messages": [system("s"), user("h"), assistant("r"), user("q"), assistant("a")]},
    ),
    ("prompt_response", {"prompt": "q", "response": "a"}, {"messages": [user("q"), assistant("a")]}),
    ("prompt_response", {"prompt": "中", "response": 4}, {"messages": [user("中"), assistant("4")]}),
    ("messages", {"messages": [user("q"), assistant("a")]}, {"messages": [user("q"), assistant("a")]}),
    (
        "messages",
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        {"messages": [user("q"), assistant("a")]},
    ),
    (
        "conversations",
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
        {"messages": [system("s"), user("q"), assistant("a")]},
    ),
    (
        "preference",
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
    ),
    (
        "preference",
        {"prompt": "q", "chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]},
        {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
    ),
    (
        "preference",
        {"prompt": [system("s"), user("q")], "chosen": assistant("a"), "rejected": assistant("b")},
        {"prompt": [system("s"), user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
    ),
    (
        "preference",
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
    ),
    (
        "feedback",
        {"prompt": "q", "completion": "a", "label": True},
        {"prompt": [user("q")], "completion": [assistant("a")], "label": True},
    ),
    (
        "feedback",
        {"prompt": "q", "completion": "a", "label": "false"},
        {"prompt": [user("q")], "completion": [assistant("a")], "label": False},
    ),
    (
        "feedback",
        {"messages": [user("q"), assistant("a")], "label": 1},
        {"prompt": [user("q")], "completion": [assistant("a")], "label": True},
    ),
    ("prompts", {"prompt": "2 + 2?", "answer": 4}, {"prompt": [user("2 + 2?")], "answer": "4"}),
    ("prompts", {"instruction": "q", "input": None}, {"prompt": [user("q")], "answer": ""}),
    ("prompts", {"prompt": None, "instruction": "q", "input": "x"}, {"prompt": [user("q\nx")], "answer": ""}),
    ("prompts", {"conversations": [{"from": "human", "value": "q"}]}, {"prompt": [user("q")], "answer": ""}),
    ("preference", {"instruction": "q", "input": "x", "chosen": "a", "rejected": "b"}, PAIR),
    (
        "preference",
        {"chosen": "\r\n\r\nHuman: q\nx\r\n\r\nAssistant: a", "rejected": "\n\nHuman: q\nx\n\nAssistant: b"},
        PAIR,
    ),
    ("preference", {"instruction": "", "chosen": ASKED, "rejected": [*ASKED[:1], assistant("b")]}, PAIR),
    ("preference", {"prompt": "q\nx", "chosen": json.dumps(assistant("a")), "rejected": REJECTED}, PAIR),
    ("ranked", {"instruction": "q", "input": "x", "responses": ["a", "b"], "scores": [2, 1]}, PAIR),
    ("feedback", {"instruction": "q", "input": "x", "output": "a", "kto_tag": True}, LIKED),
    ("feedback", {"prompt": "q\nx", "response": "a", "label": "👍🏽"}, LIKED),
    ("feedback", {"conversations": ASKED, "label": "like"}, LIKED),
    ("alpaca", {"instruction": "", "input": "q", "output": "a"}, {"messages": [user("q"), assistant("a")]}),
    ("alpaca", {"instruction": NAN, "input": "q", "output": "a"}, {"messages": [user("q"), assistant("a")]}),
    ("alpaca", {"instruction": "q", "input": NAN, "output": "a"}, {"messages": [user("q"), assistant("a")]}),
    ("prompt_response", {"prompt": "q", "response": "[1, 2]"}, {"messages": [user("q"), assistant("[1, 2]")]}),
    (
        "prompt_response",
        {"prompt": "{'from': 'Ann'} is?", "response": PERSON},
        {"messages": [user("{'from': 'Ann'} is?"), assistant(PERSON)]},
    ),
    (
        "prompt_response",
        {"prompt": "q", "response": "{'role': 'x'}"},
        {"messages": [user("q"), assistant("{'role': 'x'}")]},
    ),
    ("prompt_response", {"prompt": "q", "response": LETTERS}, {"messages": [user("q"), assistant(LETTERS)]}),
    ("alpaca", {"instruction": "q", "output": CHAT_TEXT}, {"messages": [user("q"), assistant(CHAT_TEXT)]}),
    ("prompt_response", {"prompt": "Hi", "response": CHAT_TEXT}, {"messages": [user("Hi"), assistant("a")]}),
    ("prompt_response", {"prompt": "q", "response": '[{"role": "assistant", "content": "a"}]'}, ANSWERED),
    ("prompt_response", {"prompt": "q", "response": [user("q"), assistant("a")]}, ANSWERED),
    ("prompt_response", {"prompt": [user("q")], "response": [user(" q"), assistant("a")]}, ANSWERED),
    (
        "prompt_response",
        {"prompt": [system("s"), user("q")], "response": [system("s"), user("q"), assistant("a")]},
        {"messages": [system("s"), user("q"), assistant("a")]},
    ),
    (
        "prompt_response",
        {"prompt": "q", "response": [system("s"), user("q"), assistant("a")]},
        {"messages": [system("s"), user("q"), assistant("a")]},
    ),
    (
        "prompt_response",
        {"prompt": "q", "response": [assistant("a"), user("r"), assistant("b")]},
        {"messages": [user("q"), assistant("a"), user("r"), assistant("b")]},
    ),
    ("prompt_response", {"prompt": "\n\nHuman: q\n\nAssistant:", "response": "a"}, ANSWERED),
    (
        "preference",
        {"prompt": " \n\nHuman: Hi\n\nAssistant:", "chosen": HH, "rejected": "\n\nHuman: Hi\n\nAssistant: b"},
        {"prompt": [user("Hi")], "chosen": [assistant("Hello.")], "rejected": [assistant("b")]},
    ),
    (
        "preference",
        {"prompt": "Hi", "chosen": HH, "rejected": "\n\nHuman: Hi\n\nAssistant: b"},
        {"prompt": [user("Hi")], "chosen": [assistant("Hello.")], "rejected": [assistant("b")]},
    ),
    (
        "preference",
        {"prompt": "Write a dialogue.", "chosen": HH, "rejected": "no"},
        {"prompt": [user("Write a dialogue.")], "chosen": [assistant(HH)], "rejected": [assistant("no")]},
    ),
    (
        "prompt_response",
        {"prompt": [user("q")], "completion": [assistant("a")]},
        {"messages": [user("q"), assistant("a")]},
    ),
    (
        "messages",
        {"messages": [user([text("q"), text("r")]), assistant([text("a")])]},
        {"messages": [user("qr"), assistant("a")]},
    ),
    (
        "messages",
        {"messages": [assistant("a"), user("q"), assistant("b")]},
        {"messages": [assistant("a"), user("q"), assistant("b")]},
    ),
    (
        "conversations",
        {"conversations": [{"From": "Human", "Value": "q"}, {"from": "GPT", "value": "a", "content": None}]},
        {"messages": [user("q"), assistant("a")]},
    ),
    (
        "preference",
        {"prompt": "q", "chosen": [text("a")], "rejected": "[]", "messages": [user("q"), assistant("a")]},
        {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("[]")]},
    ),
    *(
        (
            "feedback",
            {"prompt": "q", "completion": "a", "label": label},
            {"prompt": [user("q")], "completion": [assistant("a")], "label": bool(float(label))},
        )
        for label in (1.0, 0.0, 1, 0, "1", "0.0", True, False)
    ),
]

BAD = [
    ("alpaca", {"instruction": "q"}, "no 'output'; it has instruction"),
    ("alpaca", {"instruction": " ", "output": "a"}, "instruction and input are empty"),
    ("alpaca", {"instruction": "q", "output": None}, "output is empty"),
    ("alpaca", {"instruction": "q", "output": "a", "history": [["only"]]}, "history must be a list"),
    ("messages", {"messages": []}, "must be a list of messages that is not empty"),
    ("messages", {"messages": [user("q")]}, "ends on a user turn"),
    ("messages", {"messages": [user("q"), assistant(" ")]}, r"messages\[1\]: the reply is empty"),
    ("messages", {"messages": [{"role": "robot", "content": "q"}]}, "role is 'robot'; allowed"),
    ("messages", {"messages": [{"role": "user"}]}, "must have 'role' and 'content'"),
    ("messages", {"messages": ["q"]}, "must be a message of role and content, not str"),
    ("preference", {"prompt": "q", "chosen": "a", "rejected": "a"}, "nothing to prefer"),
    (
        "preference",
        {"chosen": [user("q"), assistant("a")], "rejected": [user("p"), assistant("b")]},
        "begin with different prompts",
    ),
    ("feedback", {"prompt": "q", "completion": "a", "label": "maybe"}, "label is 'maybe'; allowed: true or false"),
    ("prompts", {"prompt": [user("q"), assistant("a")], "answer": "4"}, "prompt ends on an assistant turn"),
    ("alpaca", "text", "a row must be a mapping, not str"),
    ("alpaca", {"instruction": "q", "output": NAN}, "output is empty"),
    ("alpaca", {"instruction": "q", "output": INF}, "output is float, not text"),
    ("alpaca", {"instruction": "q", "output": "so good \ud83d"}, r"holds half a character .*; \\ud83d at character 9"),
    ("prompts", {"prompt": "q", "answer": "\udc00"}, "answer holds half a character"),
    ("messages", {"messages": deep(3000)}, "nested too deep"),
    ("messages", {"messages": "[{'role': 'user'}]"}, "messages is a text that is no JSON list of messages"),
    ("messages", {"messages": [user(None), assistant("a")]}, r"messages\[0\]: content is null, not text"),
    (
        "messages",
        {"messages": [{"role": "system", "content": None}, user("q"), assistant("a")]},
        "0\\]: content is null",
    ),
    ("messages", {"messages": [user("q"), assistant(None)]}, r"messages\[1\]: content is null, not text"),
    ("messages", {"messages": [user(NAN), assistant("a")]}, r"messages\[0\]: content is null, not text"),
    ("messages", {"messages": [user([{"type": "image_url"}]), assistant("a")]}, "part of type 'image_url': only text"),
    ("messages", {"messages": [system("s"), assistant("a")]}, "no turn of a user"),
    ("messages", {"messages": [user("q"), {"role": "tool", "content": "4"}, assistant("a")]}, "turn 2: a result th"),
    ("messages", {"messages": [system("s"), user("q"), assistant("a")], "system": "t"}, "another system prompt"),
    (
        "messages",
        {"messages": [user("q"), assistant("a")], "system": 5.0, "weight": [1, 0]},
        "'weight' is not honoured",
    ),
    ("conversations", {"conversations": [{"from": "function_call", "value": "{}"}]}, "a call without a name"),
    ("preference", {"chosen": "User: Hi\nAssistant: a", "rejected": "User: Hi\nAssistant: b"}, "a whole transcript"),
    ("preference", {"chosen": HH, "rejected": HH.replace("Hi", "Hey") + "."}, "begin with different prompts"),
    ("preference", {"chosen": HH, "rejected": "\n\nHuman: Hi\n\nAssistant: "}, "the reply is empty"),
    ("preference", {"prompt": "p", "chosen": [user("q"), assistant("a")], "rejected": "b"}, "prompt is not among"),
    ("feedback", {"prompt": "q", "completion": "a", "label": NAN}, "no label: it says whether"),
    ("feedback", {"prompt": "q", "completion": "a"}, "no label: it says whether"),
    (
        "prompt_response",
        {"prompt": {"0": "q"}, "response": {"0": "a"}},
        "is dict, not text; is the file written by col",
    ),
    ("prompts", {"instruction": " ", "input": None}, "instruction and input are empty"),
    ("preference", {"prompt": "q", "chosen": str(assistant("a")), "rejected": "b"}, "messages as Python shows them"),
    (
        "prompt_response",
        {"prompt": "q", "response": "{'value': 'a\\nb', 'from': 'gpt'}\n"},
        "messages as Python shows th",
    ),
    ("prompt_response", {"prompt": "q", "response": json.dumps(user("r"))}, "response is the JSON text of a conv"),
    ("prompt_response", {"prompt": "q", "response": ["a", "b"]}, "is list, not text; is the file written by columns"),
    ("prompt_response", {"prompt": "q", "response": {"text": "a"}}, "response is dict, not text$"),
    ("feedback", {"prompt": "q", "completion": "a", "label": 0.5}, "label is '0.5'"),
    ("prompt_response", {"prompt": "q", "response": CHAT_TEXT}, "response is the JSON text of a conversation, and the"),
    ("preference", {"prompt": "q", "chosen": CHAT_TEXT, "rejected": "b"}, "chosen is the JSON text of a conversation"),
    (
        "prompt_response",
        {"prompt": "q", "response": [user("r"), assistant("a")]},
        r"response\[1\]: two user turns in a row",
    ),
    (
        "prompt_response",
        {"prompt": [system("s"), user("q")], "response": [system("t"), user("q"), assistant("a")]},
        r"response\[2\]: a system turn in the middle",
    ),
    *(
        (name, {**row, key: str([user("q"), assistant("a")])}, "messages as Python shows them")
        for name, row, key in (
            ("prompt_response", {"prompt": "q"}, "response"),
            ("prompt_response", {"response": "a"}, "prompt"),
            ("preference", {"prompt": "q", "rejected": "b"}, "chosen"),
            ("feedback", {"prompt": "q", "label": True}, "completion"),
            ("prompts", {}, "prompt"),
            ("ranked", {"completions": ["a", "b"], "scores": [1, 2]}, "prompt"),
        )
    ),
    ("prompt_response", {"prompt": "q", "response": "a", "input": "[]"}, "'input' beside the prompt is not honoured"),
    ("prompt_response", {"prompt": "q", "response": "a", "input": "x"}, "'input' beside the prompt is not honoured"),
    ("prompt_response", {"prompt": "q", "response": "a", "history": [["h", "r"]]}, "'history' beside the prompt"),
]


@pytest.mark.parametrize("name,row,expected", GOOD)
def test_a_good_row(name: str, row: Any, expected: Any) -> None:
    assert convert(row, name, PLAIN).row == expected


@pytest.mark.parametrize("name,row,message", BAD)
def test_a_bad_row_says_what_is_wrong(name: str, row: Any, message: str) -> None:
    with pytest.raises(BadRow, match=message):
        convert(row, name, PLAIN)


LEARNED = {
    "Weight": 0.5, "loss_mask": [0, 1], "mask": 1, "loss_weight": 0,
    "images": ["a.png"], "image": b"png", "videos": ["a"], "audios": ["a"],
}  # fmt: skip
HARMLESS = [None, "", " ", [], {}, NAN, "[]", "null", [None], {"a": None}]


@pytest.mark.parametrize("key", LEARNED)
def test_a_key_that_changes_what_is_learned_is_refused_by_name(key: str) -> None:
    beside = {"messages": [user("q"), assistant("a")], key: LEARNED[key]}
    within = {"messages": [user("q"), {**assistant("a"), key: LEARNED[key]}]}
    for row, name in ((beside, key), (within, key.lower())):
        with pytest.raises(BadRow, match=f"{name!r} is not honoured: "):
            convert(row, "messages", PLAIN)


@pytest.mark.parametrize("key", [*LEARNED, "id"])
@pytest.mark.parametrize("value", HARMLESS)
def test_what_is_empty_says_nothing(key: str, value: Any) -> None:
    row = {"messages": [user("q"), {**assistant("a"), key: value}], key: value}
    assert convert(row, "messages", PLAIN).unused == set()


@pytest.mark.parametrize(
    "key,value", [("weight", 1), ("weight", 1.0), ("loss", True), ("train", "true"), ("tools", False)]
)
def test_a_key_that_asks_for_what_is_done_anyway_passes(key: str, value: Any) -> None:
    row = {"messages": [user("q"), {**assistant("a"), key: value}], key: value}
    assert convert(row, "messages", PLAIN).unused == set()


CALL = {"id": "call00001", "type": "function", "function": {"name": "price", "arguments": {"of": "ABC"}}}
TOOL = {"type": "function", "function": {"name": "price", "parameters": {"type": "object"}}}
RESULT = {"role": "tool", "content": "4", "tool_call_id": "call00001", "name": "price"}
CALLED = [{**user("q"), "tools": [TOOL]}, {**assistant(""), "tool_calls": [CALL]}, RESULT, assistant("a")]
OPENAI = {**CALL, "function": {"name": "price", "arguments": '{"of": "ABC"}'}}


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "messages",
            {"messages": [user("q"), {**assistant(None), "tool_calls": [OPENAI]}, RESULT, assistant("a")],
             "tools": [TOOL], "parallel_tool_calls": False},
        ),
        (
            "messages",  # the older form
            {"messages": [user("q"), {**assistant(None), "function_call": OPENAI["function"]},
                          {"role": "function", "name": "price", "content": "4"}, assistant("a")],
             "functions": [TOOL["function"]]},
        ),
        (
            "conversations",
            {"conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": '{"name": "price", "arguments": {"of": "ABC"}}'},
                {"from": "observation", "value": "4"}, {"from": "gpt", "value": "a"}],
             "tools": '[{"name": "price", "parameters": {"type": "object"}}]'},
        ),
        (
            "messages",  # as a table gives it, where another row's call has other arguments
            {"messages": [user("q"), {**assistant(""), "tool_calls": [
                {**CALL, "function": {"name": "price", "arguments": {"of": "ABC", "other": None}}}]},
                RESULT, {**assistant("a"), "tool_calls": None}],
             "tools": [{**TOOL, "strict": None, "function": {**TOOL["function"], "description": None}}]},
        ),
    ],
)  # fmt: skip
def test_calls_of_every_shape_become_one(name: str, row: dict[str, Any]) -> None:
    found = convert(row, name, PLAIN)
    assert found.row == {"messages": CALLED} and found.unused == set()


def test_thinking_before_a_call_stays_beside_it() -> None:
    """As LLaMA-Factory's ShareGPT rows have it, in the text of the call."""
    call = '<think>\nhm\n</think>\n\n{"name": "price", "arguments": {"of": "ABC"}}'
    turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": call}]
    made = convert({"conversations": turns}, "conversations", PLAIN).row["messages"][1]
    assert made == {**assistant("<think>\nhm\n</think>"), "tool_calls": [CALL]}


def test_tools_under_both_names_are_refused() -> None:
    row = {**ANSWERED, "tools": [TOOL], "functions": [TOOL["function"]]}
    with pytest.raises(BadRow, match="'functions' is not honoured"):
        convert(row, "messages", PLAIN)


def test_results_go_to_their_calls() -> None:
    calls = [{"name": "a", "arguments": "{}"}, {"name": "b", "arguments": ""}]
    results = [{"role": "tool", "name": "b", "content": "1"}, {"role": "tool", "content": "2"}]
    row = {"messages": [user("q"), {**assistant(None), "tool_calls": calls}, *results, assistant("a")]}
    turns = convert(row, "messages", PLAIN).row["messages"]
    assert [(turn["tool_call_id"], turn["name"]) for turn in turns[2:4]] == [("call00002", "b"), ("call00001", "a")]


@pytest.mark.parametrize("key,value", [("weight", 0), ("weight", 0.0), ("loss", False), ("train", "false")])
def test_a_reply_of_no_weight_stays_and_is_not_learned(key: str, value: Any) -> None:
    row = {"messages": [user("q"), {**assistant("no"), key: value}, user("q"), {**assistant("yes"), key: 1}]}
    turns = convert(row, "messages", PLAIN).row["messages"]
    assert [turn.get("weight") for turn in turns] == [None, 0, None, None]


def test_grpo_has_no_tools() -> None:
    with pytest.raises(BadRow, match="'tools' is not honoured: tool calls stand in"):
        convert({"prompt": "q", "answer": "4", "tools": [TOOL]}, "prompts", PLAIN)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "f", "arguments": "{"}, r"messages\[1\]: tool_calls: arguments of f: '{' is not JSON"),
        ({"name": "f", "arguments": [1]}, "arguments of f must be an object, not '\\[1\\]'"),
        ({"name": "f", "arguments": '{"a": NaN}'}, "is not JSON"),
        ({"id": "c1"}, "a call without a name"),
        (7, "'7' is no call"),
    ],
)
def test_a_call_that_is_none_is_told(call: Any, message: str) -> None:
    with pytest.raises(BadRow, match=message):
        convert({"messages": [user("q"), {**assistant(None), "tool_calls": [call]}]}, "messages", PLAIN)


def test_what_is_not_used_is_named() -> None:
    row = {"instruction": "q", "output": "a", "id": 7, "prompt": "other", "score": 0.5, "empty": None}
    assert convert(row, "alpaca", PLAIN).unused == {"id", "prompt", "score"}
    chat = {"messages": [{**user("q"), "name": "Ann"}, {**assistant("a"), "id": 1}], "conversations": [1]}
    assert convert(chat, "messages", PLAIN).unused == {"messages[].name", "messages[].id", "conversations"}
    mapped = source_of("r", columns={"prompt": "question", "response": "output"})
    row = {"question": "q", "output": "a", "prompt": "not this one"}
    assert convert(row, "prompt_response", mapped).unused == {"prompt"}


def test_grpo_learns_no_reply_of_the_data() -> None:
    row = {"prompt": "q", "answer": "4", "reasoning": "2 and 2", "weight": 0}
    assert convert(row, "prompts", PLAIN).unused == {"reasoning", "weight"}
    with pytest.raises(BadRow, match="'images' is not honoured"):
        convert({**row, "images": ["a.png"]}, "prompts", PLAIN)


def test_every_column_that_the_recipe_may_map_is_read_by_its_format() -> None:
    from recipes.columns import COLUMNS_OF_FORMAT
    from runner.data.fields import Fields

    assert COLUMNS_OF_FORMAT.keys() == FORMATS.keys()
    for name, row, _ in GOOD:
        fields = Fields(row)
        FORMATS[name](fields)
        also = {"completion", "response", "output", "kto_tag"}  # names beside those that a recipe maps to
        assert fields.read - {"system"} - also <= {*COLUMNS_OF_FORMAT[name]}


def test_columns_of_other_names() -> None:
    source = source_of("r", columns={"instruction": "question", "output": "answer"})
    assert convert({"question": "q", "answer": "a"}, "alpaca", source).row["messages"] == [user("q"), assistant("a")]
    with pytest.raises(BadRow, match="no column 'answer'; it has question"):
        convert({"question": "q"}, "alpaca", source)


def test_the_sources_system_prompt_is_for_rows_without_one() -> None:
    source = source_of("r", system="s")
    assert convert({"prompt": "q", "response": "a"}, "prompt_response", source).row["messages"][0] == system("s")
    own = {"messages": [system("own"), user("q"), assistant("a")]}
    assert convert(own, "messages", source).row["messages"][0] == system("own")


@pytest.mark.parametrize(
    "method,row,expected",
    [
        ("sft", {"instruction": "q", "output": "a"}, "alpaca"),
        ("sft", {"prompt": "q", "response": "a"}, "prompt_response"),
        ("sft", {"prompt": "q", "completion": "a"}, "prompt_response"),
        ("sft", {"messages": []}, "messages"),
        ("sft", {"conversations": []}, "conversations"),
        ("dpo", {"prompt": "q", "chosen": "a", "rejected": "b", "messages": []}, "preference"),
        ("kto", {"prompt": "q", "completion": "a", "label": True}, "feedback"),
        ("grpo", {"prompt": "q", "answer": "a"}, "prompts"),
        ("grpo", {"instruction": "q"}, "prompts"),
        ("grpo", {"messages": [user("q")], "answer": "4"}, "prompts"),
        ("kto", {"instruction": "q", "output": "a", "kto_tag": True}, "feedback"),
    ],
)
def test_auto_tells_the_format_from_the_keys(method: str, row: Any, expected: str) -> None:
    assert detect(row, method) == expected


def test_a_row_of_a_table_is_told_by_what_it_says() -> None:
    """Tables give every row every key, most of them null."""
    keys = ("messages", "conversations", "instruction", "output", "prompt", "response", "completion")
    row = {**dict.fromkeys(keys), "prompt": "q", "completion": "a"}
    assert detect(row, "sft") == "prompt_response"
    assert convert(row, "prompt_response", PLAIN) == ({"messages": [user("q"), assistant("a")]}, set(), [])
    chosen = {"prompt": None, "completion": None, "messages": [user("q"), assistant("a")], "label": 1.0}
    assert convert(chosen, "feedback", PLAIN).row["prompt"] == [user("q")]


def test_rows_of_unknown_replies_are_not_taken_for_prompts() -> None:
    """Where no recipe says that prompts are wanted."""
    assert guess({"instruction": "q", "context": "x", "reply": "a"}) is None
    assert guess({"prompt": "q"}) == ("grpo", "prompts") and guess(ANSWERED) == ("sft", "messages")


def test_auto_knows_mapped_columns() -> None:
    assert detect({"q": "q", "a": "a"}, "sft", {"prompt": "q", "response": "a"}) == "prompt_response"


def test_auto_names_the_keys_it_knows() -> None:
    with pytest.raises(BadRow, match="no sft format has these keys: text; known: messages"):
        detect({"text": "x"}, "sft")


def test_every_format_shows_an_example_row() -> None:
    assert all((function.__doc__ or "").startswith('{"') for function in FORMATS.values())


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n:"), min_size=1), min_size=2, max_size=7))
def test_a_transcript_is_the_turns_that_it_was_written_from(texts: list[str]) -> None:
    """HH-RLHF's form, made here of turns."""
    assume(all(text.strip() for text in texts))
    texts = texts[: len(texts) // 2 * 2]
    *before, reply = texts
    begun = "".join(f"\n\n{('Human', 'Assistant')[n % 2]}: {text}" for n, text in enumerate(before))
    row = {"chosen": f"{begun}\n\nAssistant: {reply}", "rejected": f"{begun}\n\nAssistant: not {reply}"}
    found = convert(row, "preference", PLAIN).row
    assert found["prompt"] == [(user, assistant)[n % 2](text) for n, text in enumerate(before)]
    assert found["chosen"] == [assistant(reply)] and found["rejected"] == [assistant(f"not {reply}")]


LABELLED = {
    **dict.fromkeys(("Good", "thumbs up", "👍", 1.0, "+1"), True),
    **dict.fromkeys(("bad", "👎", -1, "-1.0", "No"), False),
}


@pytest.mark.parametrize("label,good", LABELLED.items())
def test_labels_are_read_as_people_write_them(label: Any, good: bool) -> None:
    row = {"prompt": "q", "completion": "a", "label": label}
    assert convert(row, "feedback", PLAIN).row["label"] is good


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "Reasoning_Content"])
def test_thinking_goes_with_its_reply(key: str) -> None:
    row = {"messages": [user("q"), {**assistant("a"), key: "hm"}]}
    found = convert(row, "messages", PLAIN)
    assert found.row["messages"][-1] == {**assistant("a"), "reasoning_content": "hm"} and found.unused == set()


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [user("q"), assistant("a")], "reasoning_content": "hm"},
        {"messages": [{**user("q"), "thinking": "hm"}, assistant("a")]},
        {"messages": [user("q"), {**assistant("a"), "reasoning_content": "hm", "thinking": "other"}]},
    ],
)
def test_thinking_that_no_reply_has_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(BadRow, match="is not honoured: thinking stands in the message of its reply"):
        convert(row, "messages", PLAIN)


def test_null_in_tools_is_the_users_in_json_text_and_a_tables_elsewhere() -> None:
    whole = {"type": "function", "function": {"name": "f", "parameters": {"p": {"default": None, "enum": ["a", None]}}}}
    row = {"messages": [user("q"), assistant("a")]}
    for written in (json.dumps([whole]), [json.dumps(whole)], json.dumps(whole)):
        found = convert({**row, "tools": written}, "messages", PLAIN)
        assert found.row["messages"][0]["tools"] == [whole] and not found.notes
    found = convert({**row, "tools": [whole, whole]}, "messages", PLAIN)
    (tool, _) = found.row["messages"][0]["tools"]
    assert tool["function"]["parameters"] == {"p": {"enum": ["a", None]}}
    assert [note[:37] for note in found.notes] == ["tools: `default: null` is left out, a"]
    bare = {"name": "f", "parameters": {"p": {"title": None}}}
    assert not convert({**row, "tools": [bare]}, "messages", PLAIN).notes


@pytest.mark.parametrize(
    ("row", "method"),
    [
        ({"text": "a", "label": 0}, "pretrain"),
        ({"text": "a", "label": 0, "completion": None}, "pretrain"),
        ({"prompt": "q", "label": True}, "kto"),
        ({"completion": "a", "label": True}, "kto"),
        ({"Prompt": "q", "Chosen ": "a", "Rejected": "b"}, "dpo"),
        ({"prompt": "q", "Label": 1, "completion": "a"}, "sft"),  # as it stands
    ],
)
def test_what_a_row_is_taken_for(row: dict[str, Any], method: str) -> None:
    found = guess(row)
    assert found and found[0] == method


def test_a_row_of_a_classifier_is_no_feedback() -> None:
    row = {"sentence": "good", "label": 0}
    assert guess(row) is None
    with pytest.raises(BadRow, match=r"for a text and its class, set format: alpaca and columns: \{instruction: YOUR"):
        detect(row, "sft")
    advised = source_of("r", format="alpaca", columns={"instruction": "sentence", "output": "label"})
    assert convert(row, "alpaca", advised).row == {"messages": [user("good"), assistant("0")]}
    with pytest.raises(
        BadRow, match=r"no 'completion'; it has prompt, label; the reply that a label is about is one of"
    ):
        convert({"prompt": "q", "label": 1}, "feedback", PLAIN)


@pytest.mark.parametrize(
    ("name", "row", "advice"),
    [
        ("sft", {"Prompt": "q", " Response": "a"}, '{prompt: Prompt, response: " Response"}'),
        ("sft", {"prompt": "q", "RESPONSE": "a"}, "{response: RESPONSE}"),
        ("sft", {"Messages": []}, "{messages: Messages}"),
        ("dpo", {"Prompt": "q", "Chosen": "a", "rejected": "b"}, "{chosen: Chosen, prompt: Prompt}"),
        ("kto", {"Prompt": "q", "completion": "a", "Label": 1}, "{label: Label, prompt: Prompt}"),
        ("pretrain", {"Text": "q"}, "{text: Text}"),
    ],
)  # fmt: skip
def test_columns_in_capitals_or_with_spaces_are_proposed(name: str, row: dict[str, Any], advice: str) -> None:
    with pytest.raises(BadRow) as error:
        detect(row, name)
    assert str(error.value).endswith(f"; did you mean columns: {advice}?")
    columns = yaml.safe_load(advice)
    found = detect(row, name, columns)
    if "Messages" not in row:
        assert convert(row, found, source_of("r", columns=columns)).unused == set()


@pytest.mark.parametrize(
    ("name", "row", "advice"),
    [
        (
            "alpaca",
            {"instruction": "q", "Output": "a"},
            "no 'output'; it has instruction, Output; did you mean columns: ",
        ),
        ("messages", {"Messages": []}, "no 'messages'; it has Messages; did you mean columns: {messages: Messages}?"),
        (
            "preference",
            {"Prompt": "q", "chosen": "a", "rejected": "b"},
            "no 'prompt'; it has Prompt, chosen, rejected; did ",
        ),
    ],
)
def test_a_column_in_capitals_is_proposed_where_the_format_is_said(name: str, row: Any, advice: str) -> None:
    with pytest.raises(BadRow, match=re.escape(advice)):
        convert(row, name, PLAIN)


@pytest.mark.parametrize(("asked", "near"), [("title", "Title "), ("Quest", "Question")])
def test_a_column_that_is_mapped_and_not_there_is_told_with_one_of_a_like_name(asked: str, near: str) -> None:
    row = {"Title ": "x", "Question": "q", "output": "a"}
    for columns in ({"instruction": asked}, {"instruction": f"{{{asked}}}!"}):
        with pytest.raises(
            BadRow, match=f"no column '{asked}'; it has Title , Question, output; did you mean '{near}'"
        ):
            convert(row, "alpaca", source_of("r", columns=columns))
