"""`recipe reward try`: sample replies, a reply, a file of replies; and its mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.cli import main
from tests.runner.test_cli import HEAVY

RECIPE = (
    "backend: verl\nmethod: grpo\nmodel: {path: a/b}\ndata: {train: [{path: rows.jsonl}]}\n"
    "grpo: {rewards: [{type: number}, {type: regex, pattern: '^[0-9]+$', weight: 0.5}]}\n"
)
ROWS = '{"prompt": "2 + 2?", "answer": "4"}\n{"prompt": "3 + 2?", "answer": "#### 5"}\n'


@pytest.fixture
def file(write: Callable[..., Path]) -> Path:
    write(ROWS, "rows.jsonl")
    return write(RECIPE)


def tried(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert main(["reward", "try", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["reward", "try", *arguments]) == 2
    return capsys.readouterr().err


def test_by_default_the_answer_nothing_and_a_wrong_one_are_scored(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tried(capsys, str(file))
    assert [(t["kind"], t["reply"], t["reward"]) for t in found] == [
        ("the answer", "4", 1.5), ("empty", "", 0.0), ("a wrong one", "#### 5", 0.0),
        ("the answer", "#### 5", 1.0), ("empty", "", 0.0), ("a wrong one", "4", 0.5),
    ]  # fmt: skip
    assert found[0]["parts"] == {"number": 1.0, "regex": 1.0}


def test_a_table_shows_each_part_and_the_sum(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward", "try", str(file), "--reply", "it is 4"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["reply", "text", "reference", "number", "regex", "reward"]
    assert row.split()[-3:] == ["1", "0", "1"]


def test_replies_come_from_a_file_with_their_answers_or_without(
    file: Path, capsys: pytest.CaptureFixture[str], write: Callable[..., Path]
) -> None:
    lines = [{"reply": "4"}, {"output": "7", "gts": "7"}, {"reply": "5"}]
    given = write("".join(json.dumps(line) + "\n" for line in lines), "replies.jsonl")
    assert [t["reward"] for t in tried(capsys, str(file), "--replies", str(given))] == [1.5, 1.5, 1.5]
    given = write('{"reply": "4"}\n' * 3, "replies.jsonl")
    assert "replies.jsonl:3: no 'answer', and the recipe has no more rows" in mistake(
        capsys, str(file), "--replies", str(given)
    )


@pytest.mark.parametrize("text", ["no json", '["a"]', '{"text": "a"}'])
def test_a_bad_file_of_replies_is_named(
    text: str, file: Path, capsys: pytest.CaptureFixture[str], write: Callable[..., Path]
) -> None:
    given = write(text + "\n", "replies.jsonl")
    assert str(given) in mistake(capsys, str(file), "--replies", str(given))
    given = write('{"reply": "4"}\n\n' + text + "\n", "replies.jsonl")
    assert f"{given}:3: " in mistake(capsys, str(file), "--replies", str(given))


def test_a_reward_that_raises_is_the_users_mistake_with_file_and_line(
    file: Path, capsys: pytest.CaptureFixture[str], write: Callable[..., Path]
) -> None:
    own = write("def f(reply, reference, row):\n    return len(row['nothing'])\n", "own.py")
    told = "grpo.rewards=[{type: function, path: own.py:f}]"
    assert mistake(capsys, str(file), "--set", told) == f"{own}:2: KeyError: 'nothing'\n"


def test_a_reward_that_ends_the_program_is_named_too(
    file: Path, capsys: pytest.CaptureFixture[str], write: Callable[..., Path]
) -> None:
    own = write("import sys\ndef f(reply, reference, row):\n    sys.exit(3)\n", "own.py")
    told = "grpo.rewards=[{type: function, path: own.py:f}]"
    assert mistake(capsys, str(file), "--set", told) == f"{own}:3: SystemExit: 3\n"


def test_an_answer_without_a_reply_is_no_reference(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--answer is the reference of --reply" in mistake(capsys, str(file), "--answer", "3")


def test_other_methods_have_no_rewards(capsys: pytest.CaptureFixture[str]) -> None:
    assert "method: sft has no rewards; allowed: grpo" in mistake(capsys, "quickstart")


def test_rows_of_a_hub_need_a_reply_and_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert "openai/gsm8k is read inside a run only; give --reply and --answer" in mistake(capsys, "gsm8k_grpo")
    given = ["--reply", "9 + 9\n#### 18", "--answer", "#### 18"]
    assert tried(capsys, "gsm8k_grpo", *given)[0]["reward"] == pytest.approx(1.1)


def test_it_stays_light() -> None:
    code = (
        "import sys; from runner.cli import main; main(['reward', 'try', 'grpo_sums'])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    root = Path(__file__).parents[2]
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert not HEAVY & set(json.loads(shown.splitlines()[-1].replace("'", '"')))
