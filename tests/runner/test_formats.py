"""Formats: each raw row gives the canonical row of its method, or says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from recipes.encode import BadRow
from runner.data.formats import FORMATS, convert, detect

PLAIN: dict[str, Any] = {"columns": {}, "system": None}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


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
]


@pytest.mark.parametrize("name,row,expected", GOOD)
def test_a_good_row(name: str, row: Any, expected: Any) -> None:
    assert convert(row, name, PLAIN).row == expected


@pytest.mark.parametrize("name,row,message", BAD)
def test_a_bad_row_says_what_is_wrong(name: str, row: Any, message: str) -> None:
    with pytest.raises(BadRow, match=message):
        convert(row, name, PLAIN)


def test_columns_of_other_names() -> None:
    source = {"columns": {"instruction": "question", "output": "answer"}, "system": None}
    assert convert({"question": "q", "answer": "a"}, "alpaca", source).row["messages"] == [user("q"), assistant("a")]
    with pytest.raises(BadRow, match="no column 'answer'; it has question"):
        convert({"question": "q"}, "alpaca", source)


def test_the_sources_system_prompt_is_for_rows_without_one() -> None:
    source = {"columns": {}, "system": "s"}
    assert convert({"prompt": "q", "response": "a"}, "prompt_response", source).row["messages"][0] == system("s")
    own = {"messages": [system("own"), user("q"), assistant("a")]}
    assert convert(own, "messages", source).row["messages"][0] == system("own")


@pytest.mark.parametrize(
    "method,row,expected",
    [
        ("sft", {"instruction": "q", "output": "a"}, "alpaca"),
        ("sft", {"prompt": "q", "response": "a"}, "prompt_response"),
        ("sft", {"messages": []}, "messages"),
        ("sft", {"conversations": []}, "conversations"),
        ("dpo", {"prompt": "q", "chosen": "a", "rejected": "b", "messages": []}, "preference"),
        ("kto", {"prompt": "q", "completion": "a", "label": True}, "feedback"),
        ("grpo", {"prompt": "q", "answer": "a"}, "prompts"),
    ],
)
def test_auto_tells_the_format_from_the_keys(method: str, row: Any, expected: str) -> None:
    assert detect(row, method) == expected


def test_auto_names_the_keys_it_knows() -> None:
    with pytest.raises(BadRow, match="no sft format has these keys: text; known: messages"):
        detect({"text": "x"}, "sft")


def test_every_format_shows_an_example_row() -> None:
    assert all((function.__doc__ or "").startswith('{"') for function in FORMATS.values())
