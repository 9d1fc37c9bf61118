"""`recipe chat` itself: which models it asks, and what its commands do to conversations; tests/real has the replies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eval.spec import Chat, Spec
from recipes import UserError
from runner.cli import main
from runner.scoring.chat import Conversation, chat_of
from runner.verbs import chat as verb

ASKED = Chat(spec=Spec(models=(), suites=()), max_new_tokens=4)


class Echo:
    """Stands where the models' process would: says which question it was, and of how many."""

    def reply(self, conversation: Conversation, piece: Callable[[str], None]) -> str:
        last = conversation.messages[-1]["content"]
        if last == "too long":
            raise UserError("too long")
        said = f"{conversation.name}: {last} ({len(conversation.messages)})"
        piece(said)
        conversation.turns.append({"role": "assistant", "content": said})
        return "length" if last == "cut" else "stop"


@pytest.fixture
def talked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Conversation]]:
    def talk(*lines: str, names: tuple[str, ...] = ("one",)) -> list[Conversation]:
        given = iter(lines)

        def line(_prompt: str = "") -> str:
            try:
                return next(given)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", line)
        conversations = [Conversation(name) for name in names]
        verb._converse(Echo(), conversations)  # type: ignore[arg-type]
        return conversations

    return talk


def test_each_model_has_a_conversation_of_its_own(
    talked: Callable[..., list[Conversation]], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = talked("a", "", "b", "/quit", "c", names=("one", "two"))
    assert [turn["content"] for turn in one.turns] == ["a", "one: a (1)", "b", "one: b (3)"]
    assert [turn["content"] for turn in two.turns] == ["a", "two: a (1)", "b", "two: b (3)"]
    assert capsys.readouterr().out.startswith("--- one\none: a (1)\n--- two\ntwo: a (1)\n--- one\n")


def test_commands(
    talked: Callable[..., list[Conversation]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "t.jsonl"
    lines = ["/retry", "a", "b", "/retry", f"/save {file}", f"/save {file}", "/save", "/help", "/rest", "too long"]
    (one,) = talked(*lines)
    assert [turn["content"] for turn in one.turns] == ["a", "one: a (1)", "b", "one: b (3)"]  # again, in its own place
    assert json.loads(file.read_text()) == {"messages": one.turns}
    said = capsys.readouterr().err
    for text in ("nothing was asked yet", "is there already", "name a file", "/system TEXT", "did you mean '/reset'?"):
        assert text in said
    (one,) = talked("a", "/system Be brief.", "b", "/reset", "c", "cut")
    assert [turn["content"] for turn in one.messages][:3] == ["Be brief.", "c", "one: c (2)"]
    assert "cut after --max-new-tokens" in capsys.readouterr().err


def test_half_a_character_is_refused_and_the_conversation_goes_on(
    talked: Callable[..., list[Conversation]], capsys: pytest.CaptureFixture[str]
) -> None:
    (one,) = talked("a", "Why \ud83d?", "/system \ude00", "b")
    assert [turn["content"] for turn in one.messages] == ["a", "one: a (1)", "b", "one: b (3)"]
    said = capsys.readouterr().err
    assert "the prompt: it holds half a character (or a byte that is no UTF-8) at its character 5; write" in said
    assert said.count("half a character") == 2


@pytest.mark.parametrize("option", ["--prompt", "--system"])
def test_half_a_character_in_an_option_is_refused_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    (tmp_path / "model").mkdir()
    assert main(["chat", str(tmp_path / "model"), "--prompt", "a", option, "b\udcff"]) == 2
    said = capsys.readouterr().err
    assert f"{option}: it holds half a character" in said and len(said.splitlines()) == 1


def test_bytes_that_are_no_utf8_are_refused_with_their_line() -> None:
    """In a child, whose stdin holds them."""
    talks = (
        "from runner.verbs import chat; from runner.scoring.chat import Conversation\n"
        "from tests.runner.test_chat import Echo\n"
        "chat._converse(Echo(), [Conversation('one')])"
    )
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", talks], input=b"a\nb\xff\nc\n", capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"one: a (1)\none: c (3)\n"
    assert b"half a character (or a byte that is no UTF-8) at its character 2" in done.stderr


def test_models_are_runs_directories_and_bases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "whole").mkdir()
    own = chat_of([str(tmp_path / "whole"), str(tmp_path / "whole")], tmp_path, ASKED, print, trusted=False).spec
    assert [model.name for model in own.models] == [str(tmp_path / "whole"), f"{tmp_path / 'whole'} (2)"]
    with pytest.raises(UserError, match="is no run, so that it has no base"):
        chat_of([str(tmp_path / "whole"), "base"], tmp_path, ASKED, print, trusted=False)
    with pytest.raises(UserError, match="no such directory"):
        chat_of(["./nothing"], tmp_path, ASKED, print, trusted=False)
    asked = replace(ASKED, spec=replace(ASKED.spec, chat_template="x"))
    assert chat_of(["acme/model"], tmp_path, asked, print, trusted=False).spec.models[0].path == "acme/model"


@pytest.mark.parametrize(
    "given,text",
    [(["--temperature", "hot"], "such as 0.7"), (["--max-new-tokens", "0"], "at least 1")],
)  # fmt: skip
def test_odd_options_are_refused(given: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["chat", "x", *given])
    assert text in capsys.readouterr().err


def test_a_template_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "acme/x", "--chat-template", str(tmp_path / "no.jinja")]) == 2
    assert "no such file" in capsys.readouterr().err
