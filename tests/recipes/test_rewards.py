"""The rewards of GRPO: each built-in one on its edges, a user's own function, and what is said when one fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes import UserError, load_text, rewards
from recipes.reward_files import function_problem
from recipes.types import Reward

BASE = "backend: verl\nmethod: grpo\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"


def made(**given: Any) -> Reward:
    return Reward(**({"weight": 1.0, "pattern": None, "target": None, "path": None} | given))


@pytest.mark.parametrize(
    "reply,reference,expected",
    [
        ("Paris", "paris", 1),
        ("The answer is: Paris.", "Paris", 1),
        ("It rains. So the answer is Lyon", "Paris", 0),
        ("Answer: 'New   York'", "new york", 1),
        ("so\n#### 18", "9 + 9 = 18\n#### 18", 1),
        (r"thus \boxed{42}.", "42", 1),
        (r"\boxed{1} no, \boxed{2}", "2", 1),
        (r"It is \boxed{\frac{1}{2}}.", r"\frac{1}{2}", 1),
        (r"First \boxed{3}, so in the end \boxed{\frac{1}{2}}", "3", 0),
        (r"\boxed {\text{Paris}}", r"\text{Paris}", 1),
        (r"\boxed{7} and then \boxed{\frac{1}{2", "7", 1),  # cut off
        (r"a } or { \boxed{x^{2}}", "x^{2}", 1),
        ("答案是：北京。", "北京", 1),
        ("答案是上海", "北京", 0),
        ("ＡＢＣ", "abc", 1),  # full width
        ("", "x", 0),
        ("", "", 1),
        ("Paris is nice", "Paris", 0),
    ],
)
def test_exact_compares_final_answers(reply: str, reference: str, expected: float) -> None:
    assert rewards.exact(reply, reference) == expected


INSIDE = st.recursive(
    st.text("ab1 ^_", max_size=3), lambda inner: st.lists(inner.map("{{{}}}".format) | inner, max_size=3).map("".join)
)


@given(st.lists(INSIDE, min_size=1, max_size=4), st.text("xy. ", max_size=5))
def test_the_last_box_is_the_answer_whatever_braces_it_holds(boxes: list[str], between: str) -> None:
    reply = between.join(f"\\boxed{{{box}}}" for box in boxes)
    assert rewards.final_answer(reply + between) == boxes[-1]


@pytest.mark.parametrize(
    "text,expected",
    [
        ("#### 18", "18"),
        ("first 3, then 5", "5"),
        ("#### 1,234.50 dollars, of 7", "1234.50"),
        ("She pays $1,000,000.", "1000000"),
        ("-5", "-5"),
        ("x = −3.5", "-3.5"),  # a minus sign
        ("10-5", "5"),
        ("(4)-2", "2"),
        ("-$20", "-20"),
        ("12.", "12"),
        (".5", "0.5"),
        ("价格是１２元", "12"),  # full width
        ("共1，200元", "1200"),
        ("3, 4", "4"),
        ("1,23", "23"),
        ("It made 1.2 million", "1200000.0"),
        ("亏损120万", "1200000"),
        ("a change of (5%)", "-5"),
        ("7 #### 8 #### 9 and 10", "9"),
        ("#### none", None),
        ("no number", None),
        ("", None),
    ],
)
def test_numbers_are_found_as_in_gsm8k(text: str, expected: str | None) -> None:
    found = rewards.last_number(text)
    assert (found is None) if expected is None else str(found) in (expected, expected.lstrip("0"))


def test_numbers_are_compared_by_value() -> None:
    assert rewards.number("It is 18.0", "#### 18") == 1
    assert rewards.number("It is 18.01", "#### 18") == 0
    assert rewards.number("I do not know", "#### 18") == 0
    assert rewards.number("It fell by -5 %", "5 %") == 0
    assert rewards.number("It made $1.2 million", "#### 1,200,000") == 1
    with pytest.raises(rewards.RewardError, match="the reference 'eighteen' has no number"):
        rewards.number("18", "eighteen")


@pytest.mark.parametrize(
    "reply,target,expected",
    [
        ("one two three four", 4, 1),
        ("", 4, 0),
        ("a b", 4, 0.5),
        ("a b c d e f g h", 4, 0),
        ("a " * 99, 4, 0),
        ("你好", 2, 1),
    ],
)
def test_length_falls_on_both_sides(reply: str, target: int, expected: float) -> None:
    assert rewards.length(reply, target) == expected


def test_the_sum_is_weighted_and_the_parts_are_named() -> None:
    told = [
        made(type="regex", pattern="^<answer>.*</answer>$", weight=0.25),
        made(type="regex", pattern="4"),
        made(type="number", weight=2.0),
    ]
    got = rewards.score(rewards.load(told), "<answer>4</answer>", "4", {})
    assert got.parts == {"regex": 1.0, "regex-2": 1.0, "number": 1.0} and got.total == 3.25
    got = rewards.score(rewards.load(told), "4 or 5", "4", {})
    assert got.parts == {"regex": 0.0, "regex-2": 1.0, "number": 0.0} and got.total == 1.0


def test_a_function_gets_reply_reference_and_row(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("def kind(reply, reference, row):\n    return len(reply) + len(reference) + row['more']\n")
    loaded = rewards.load([made(type="function", path=f"{file}:kind")])
    assert rewards.score(loaded, "ab", "c", {"more": 4}).parts == {"kind": 7.0}


@pytest.mark.parametrize(
    "body,expected",
    [
        ("    return 1 / 0", r"own.py:2: ZeroDivisionError: division by zero"),
        ("    return 'much'", r"own\.py:1: f: gave 'much'; a reward is a finite number"),
        ("    return None", r"f: gave None"),
        ("    return float('nan')", r"f: gave nan"),
    ],
)
def test_a_reward_that_fails_is_never_zero(body: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(f"def f(reply, reference, row):\n{body}\n")
    loaded = rewards.load([made(type="function", path=f"{file}:f")])
    with pytest.raises(rewards.RewardError, match=expected):
        rewards.score(loaded, "", "", {})


def test_a_file_that_cannot_be_imported_is_named_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("import nowhere\n\ndef f(reply, reference, row):\n    return 1\n")
    with pytest.raises(rewards.RewardError, match=r"own.py:1: ModuleNotFoundError: No module named 'nowhere'"):
        rewards.load([made(type="function", path=f"{file}:f")])


@pytest.mark.parametrize(
    "code,path,expected",
    [
        ("def f(reply, reference, row): ...", "own.py:f", ""),
        ("def f(a, b, c, d=1): ...", "own.py:f", ""),
        ("def f(*all): ...", "own.py:f", ""),
        ("def f(a, b): ...", "own.py:f", "own.py:1: f cannot be called so; write it as def f(reply, reference, row)"),
        ("def f(a, b, c, d): ...", "own.py:f", "cannot be called so"),
        ("def f(a, b, c, *, d): ...", "own.py:f", "cannot be called so"),
        ("async def f(a, b, c): ...", "own.py:f", "cannot be called so"),
        ("def polite(a, b, c): ...", "own.py:polit", "no function 'polit'; did you mean 'polite'?"),
        ("def f(:", "own.py:f", "own.py:1: invalid syntax"),
        ("def f(a, b, c): ...", "own2.py:f", "no such file"),
        ("def f(a, b, c): ...", "own2.py:f", "did you mean 'own.py'?"),
        ("", "own.py", "'own.py' is not allowed; allowed: file.py:function"),
        ("", "own.txt:f", "allowed: file.py:function"),
    ],
)
def test_a_function_is_checked_without_running_it(code: str, path: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(code)
    found = function_problem(path, tmp_path)
    assert expected in found and bool(found) == bool(expected)


@pytest.mark.parametrize(
    "reward,expected",
    [
        ("{type: regex, pattern: '(['}", "grpo.rewards[0].pattern: '([' is not a regular expression"),
        ("{type: regex}", "grpo.rewards[0].pattern: missing"),
        ("{type: length}", "grpo.rewards[0].target: missing"),
        ("{type: function, path: none.py:f}", "grpo.rewards[0].path: no such file"),
        ("{type: exact, pattern: x}", "grpo.rewards[0].pattern: does not belong to a reward of type exact"),
        ("{type: exat}", "did you mean 'exact'?"),
    ],
)
def test_a_bad_reward_is_a_mistake_in_the_recipe(reward: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_text(f"{BASE}grpo: {{rewards: [{reward}]}}\n".encode(), tmp_path / "r.yaml")
    assert expected in str(caught.value)


def test_a_functions_path_is_relative_to_the_recipe(write: Callable[..., Path]) -> None:
    write("def f(reply, reference, row): return 1.0\n", "own.py")
    file = write(f"{BASE}grpo: {{rewards: [{{type: function, path: own.py:f}}]}}\n")
    loaded = load_text(file.read_bytes(), file)
    assert loaded.recipe.grpo.rewards[0].path == f"{file.parent.resolve()}/own.py:f"
    again = load_text(json.dumps(loaded.complete()).encode(), Path("/elsewhere/recipe.yaml"))
    assert again.recipe == loaded.recipe
