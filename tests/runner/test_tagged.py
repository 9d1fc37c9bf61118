"""Calls and results that stand in a text between tags, as Hermes's rows have them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from recipes.encode import BadRow
from runner.data.formats import convert
from runner.data.spec import source_of
from runner.data.tagged import TOLD_TWICE

PLAIN = source_of("rows.jsonl")
TOOL = {"type": "function", "function": {"name": "price", "parameters": {"type": "object"}}}
SYSTEM = f"You may call functions.\n<tools>\n{json.dumps([TOOL])}\n</tools>\nWrite <tool_call>\n{{}}\n</tool_call>."
CALL = '<tool_call>\n{"arguments": {"of": "ABC"}, "name": "price"}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "rate", "arguments": {}}\n</tool_call>'
RESULT = '<tool_response>\n{"name": "price", "content": {"is": 4}}\n</tool_response>\n'
SAID = '{"name": "price", "content": {"is": 4}}'


def called(name: str, arguments: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


PRICE, RATE = called("price", {"of": "ABC"}), called("rate", {}, 2)


def result(content: str, name: str = "price", number: int = 1) -> dict[str, str]:
    return {"role": "tool", "content": content, "tool_call_id": f"call{number:05d}", "name": name}


def reply(content: str, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {})}


def made(*said: str, tools: bool = False, **more: Any) -> list[dict[str, Any]]:
    """The turns behind the question of a row that says this, by ShareGPT's names and OpenAI's."""
    names = {"a": ("gpt", "assistant"), "t": ("tool", "tool"), "u": ("human", "user")}
    turns = [("u", "q"), *((text[0], text[2:]) for text in said)]
    row = {**more, **({"tools": json.dumps([TOOL])} if tools else {})}
    old = convert(
        {"conversations": [{"from": names[k][0], "value": v} for k, v in turns], **row}, "conversations", PLAIN
    )
    new = convert({"messages": [{"role": names[k][1], "content": v} for k, v in turns], **row}, "messages", PLAIN)
    assert old == new and old.unused == set()
    messages: list[dict[str, Any]] = old.row["messages"]
    return messages[1 + (messages[0]["role"] == "system") :]


@pytest.mark.parametrize(
    "before", ["", "I look.", "<think>\nA price.\n</think>", "<scratch_pad>\nGoal\n</scratch_pad>"]
)
@pytest.mark.parametrize("between", ["", "\n", "\n\n"])
@pytest.mark.parametrize("tools", [True, False])
def test_a_call_and_its_result(before: str, between: str, tools: bool) -> None:
    found = made(f"a:{before}{between}{CALL}\n", f"t:{RESULT}", "a:4 it is.", tools=tools)
    assert found == [reply(before, PRICE), result(SAID), reply("4 it is.")]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', {"a": 1}),
        ('{"name": "f", "parameters": {"a": 1}}', {"a": 1}),
        ('{"name": "f"}', {}),
        ('{"name": "f", "arguments": {"a": null}}', {"a": None}),  # no table has put it there
        ('{"name": "f", "arguments": {"a": "</tool_call> <tool_call>{"}}', {"a": "</tool_call> <tool_call>{"}),
        ("{'arguments': {'a': \"it's\", 'b': True, 'c': None}, 'name': 'f'}", {"a": "it's", "b": True, "c": None}),
        ('[{"name": "f", "arguments": {"a": 1}}]', {"a": 1}),
    ],
)
def test_ways_to_write_a_call(written: str, arguments: dict[str, Any]) -> None:
    for text in (f"<tool_call>\n{written}\n</tool_call>", f"<tool_call>{written}</tool_call>"):
        assert made(f"a:{text}", "t:4", "a:So.")[0] == reply("", called("f", arguments))


def test_results_of_several_calls_in_one_turn_and_in_several() -> None:
    rates = '<tool_response>\n{"name": "rate", "content": "<b>5</b>"}\n</tool_response>'
    wanted = [
        reply("", PRICE, RATE),
        result('{"name": "rate", "content": "<b>5</b>"}', "rate", 2),
        result(SAID),
        reply("So."),
    ]
    assert made(f"a:{CALL}\n{OTHER}", f"t:{rates}\n{RESULT}", "a:So.") == wanted
    assert made(f"a:{CALL}{OTHER}", f"t:{rates}", f"t:{RESULT}", "a:So.") == wanted


@pytest.mark.parametrize(
    ("written", "content"),
    [
        ("4", "4"),
        ('{"name": "Bond"}', '{"name": "Bond"}'),  # no call's name
        ("<tool_response>\n  4\n\n</tool_response>", "  4\n"),
        ("<tool_response>of </tool_response> text</tool_response>", "of </tool_response> text"),
        ("Here: <tool_response>4</tool_response>", "Here: <tool_response>4</tool_response>"),
        ("<tool_response>4</tool_response> as of today", "<tool_response>4</tool_response> as of today"),
        ("<tool_response>\n</tool_response>", ""),
        ("", ""),
    ],
)
def test_only_a_wrapper_around_all_of_a_result_is_taken_off(written: str, content: str) -> None:
    assert made(f"a:{CALL}", f"t:{written}", "a:So.")[1] == result(content)


def test_a_call_at_the_end_is_one_where_the_row_has_tools() -> None:
    assert made(f"a:{CALL}", tools=True) == [reply("", PRICE)]
    assert made(f"a:{CALL}") == [reply(CALL)]
    assert made(f"a:Write {CALL}.", tools=True) == [reply(f"Write {CALL}.")]
    assert made(f"a:{CALL}", f"t:{RESULT}", f"a:{CALL}")[2] == reply("", {**PRICE, "id": "call00002"})


def test_results_in_a_turn_of_the_user() -> None:
    """As Qwen's template writes them; only behind a call, and where the row has tools."""
    wanted = [reply("", PRICE), result(SAID), reply("So.")]
    assert made(f"a:{CALL}", f"u:{RESULT}", "a:So.", tools=True) == wanted
    asked = {"role": "user", "content": RESULT}
    assert made(f"a:{CALL}", f"u:{RESULT}", "a:So.") == [reply(CALL), asked, reply("So.")]
    assert made("a:Yes?", f"u:{RESULT}", "a:So.", tools=True) == [reply("Yes?"), asked, reply("So.")]
    more = {"role": "user", "content": f"{RESULT}And?"}
    assert made(f"a:{CALL}", f"u:{RESULT}And?", "a:So.", tools=True) == [reply("", PRICE), more, reply("So.")]


@pytest.mark.parametrize("text", [f"Write {CALL} to call.", "Write <tool_call> and </tool_call>", CALL])
def test_a_row_without_tools_or_results_is_left_alone(text: str) -> None:
    assert made(f"a:{text}", "u:<tool_response>4</tool_response>", "a:b") == [
        reply(text), {"role": "user", "content": "<tool_response>4</tool_response>"}, reply("b"),
    ]  # fmt: skip


def test_thinking_may_speak_of_a_call() -> None:
    thought = f"<think>I write {CALL} now.</think>"
    assert made(f"a:{thought}\n{CALL}", f"t:{RESULT}", "a:So.")[0] == reply(thought, PRICE)
    assert made(f"a:{thought}\nWrite <tool_call>.", tools=True) == [reply(f"{thought}\nWrite <tool_call>.")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<tool_call>\n{"name": "f", "arguments": {\n</tool_call>', r"<tool_call>: '{\"name.* is not JSON"),
        ("<tool_call>{'name': f()}</tool_call>", "is not JSON"),
        ("<tool_call>{'name': {1, 2}}</tool_call>", "is not JSON"),
        ('<tool_call>{"name": "f"}}</tool_call>', "'}</tool_call>' stands behind the call"),
        ('<tool_call>{"name": "f"}', "'' stands behind the call, not </tool_call>"),
        ('<tool_call>{"arguments": {}}</tool_call>', "<tool_call>: a call without a name"),
        ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', "arguments of f must be an object"),
        (f"{CALL} I wait.", "text behind a <tool_call>, where no template writes any: 'I wait.'"),
        (f"{CALL} and {OTHER}", "text behind a <tool_call>, where no template writes any: 'and <tool"),
    ],
)
def test_what_is_no_call_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(BadRow, match=rf"messages\[1\]: .*{message}"):
        convert(
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    reply(text),
                    {"role": "tool", "content": RESULT},
                    reply("a"),
                ]
            },
            "messages",
            PLAIN,
        )


def test_calls_in_the_text_and_beside_it_are_refused() -> None:
    with pytest.raises(BadRow, match=r"messages\[1\]: calls in its text, and others beside it"):
        row = {"messages": [{"role": "user", "content": "q"}, reply(CALL, PRICE), result("4"), reply("a")]}
        convert(row, "messages", PLAIN)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("alpaca", {"instruction": "q", "output": f"I look.\n{CALL}"}),
        ("prompt_response", {"prompt": "q", "response": f"I look.\n{CALL}"}),
        ("conversations", {"conversations": [
            {"from": "human", "value": "q"}, {"from": "function_call", "value": f"<think>I look.</think>{CALL}"}]}),
    ],
)  # fmt: skip
def test_replies_of_other_formats(name: str, row: dict[str, Any]) -> None:
    question, answer = convert({**row, "tools": [TOOL]}, name, PLAIN).row["messages"]
    assert question["tools"] == [TOOL] and answer["tool_calls"] == [PRICE]
    assert answer["content"].removeprefix("<think>").removesuffix("</think>") == "I look."


def test_pairs_and_feedback() -> None:
    row = {"prompt": "q", "chosen": CALL, "rejected": "No.", "tools": [TOOL]}
    assert convert(row, "preference", PLAIN).row["chosen"] == [reply("", PRICE)]
    row = {"prompt": "q", "completion": CALL, "label": True, "tools": [TOOL]}
    assert convert(row, "feedback", PLAIN).row["completion"] == [reply("", PRICE)]


@pytest.mark.parametrize(("tools", "system", "twice"), [(True, SYSTEM, 1), (False, SYSTEM, 0), (True, "Be <tools>", 0)])
def test_tools_that_the_system_prompt_lists_too_are_told(tools: bool, system: str, twice: int) -> None:
    turns = [{"from": "system", "value": system}, {"from": "human", "value": "q"}, {"from": "gpt", "value": CALL}]
    given = {"conversations": turns, **({"tools": [TOOL]} if tools else {})}
    found = convert(given, "conversations", PLAIN)
    assert found.row["messages"][0]["content"] == system and found.notes == [TOLD_TWICE] * twice


@pytest.mark.parametrize("nothing", [None, math.nan, "", []])
def test_a_result_may_be_empty(nothing: Any) -> None:
    turns = [{"role": "user", "content": "q"}, reply("", PRICE), {**result(""), "content": nothing}, reply("a")]
    assert convert({"messages": turns}, "messages", PLAIN).row["messages"][2] == result("")
