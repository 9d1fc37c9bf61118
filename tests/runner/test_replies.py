"""The replies that are kept of a preparation, against a search in the rendered text; what differs is told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.spec import Merge, Prompts
from recipes import UserError, load
from recipes.encode import IGNORE
from recipes.typed import read_typed, write_typed
from runner.data.inspected import Part, Preview
from runner.data.replies import Reply, replies_of
from runner.runs import rundir
from runner.runs.tokens import conversation, differences, of_server
from runner.training.views import preview_text
from runner.verbs.tokens import _marks

TURN = st.text("ab", min_size=1, max_size=4)


@given(st.lists(st.tuples(TURN, TURN), min_size=1, max_size=4), st.booleans())
def test_before_each_reply_stands_what_was_rendered_before_it(pairs: list[tuple[str, str]], last_only: bool) -> None:
    """Characters are tokens, and a question is `?words!`."""
    messages, ids, labels, expected = [], "", [], []
    for n, (question, reply) in enumerate(pairs):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        ids += f"?{question}!"
        labels += [IGNORE] * (len(ids) - len(labels))
        if not last_only or n == len(pairs) - 1:
            expected.append((2 * n + 2, ids))
            labels += list(map(ord, f"{reply}."))
        ids += f"{reply}."
        labels += [IGNORE] * (len(ids) - len(labels))
    found = list(replies_of(1, messages, list(map(ord, ids)), labels, last_only=last_only))
    assert [(reply.turn, "".join(map(chr, reply.ids))) for reply in found] == expected
    assert [reply.messages for reply in found] == [tuple(messages[: turn - 1]) for turn, _ in expected]


@given(st.lists(st.tuples(TURN, TURN, st.sampled_from(["", "call", "unweighed"])), min_size=1, max_size=5))
def test_tools_stay_and_what_has_no_weight_is_no_reply(turns: list[tuple[str, str, str]]) -> None:
    """Characters are tokens; a call is a turn with loss of its own, and its result stands before the reply."""
    messages: list[dict[str, object]] = []
    ids, labels, expected = "", list[int](), []

    def add(role: str, text: str, loss: bool, **more: object) -> None:
        nonlocal ids
        ids += f"{role[0]}:"
        labels.extend([IGNORE] * 2)
        if loss:
            expected.append((len(messages) + 1, ids))
        ids += f"{text}."
        labels.extend(map(ord, f"{text}.") if loss else [IGNORE] * (len(text) + 1))
        messages.append({"role": role, "content": text, **more})

    for question, answer, kind in turns:
        add("user", question, False)
        if kind == "call":
            add("assistant", "", True, tool_calls=[{"id": "1", "function": {"name": "f", "arguments": {}}}])
            add("tool", "result", False, tool_call_id="1")
        add("assistant", answer, kind != "unweighed", **({"weight": 0} if kind == "unweighed" else {}))
    messages[0]["tools"] = [{"type": "function", "function": {"name": "f"}}]
    found = list(replies_of(1, messages, list(map(ord, ids)), labels, last_only=False))
    assert [(reply.turn, "".join(map(chr, reply.ids))) for reply in found] == expected
    assert all(reply.messages[0]["tools"] for reply in found)


VALUES = st.recursive(
    st.integers() | st.text(max_size=4) | st.none() | st.booleans(),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), st.booleans())
def test_a_server_is_asked_in_the_form_of_openai(arguments: dict[str, object], tools: bool) -> None:
    call = {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": arguments}}
    told = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    first = {"role": "user", "content": "q", **({"tools": [told]} if tools else {})}
    thought = {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call], "weight": 0}
    result = {"role": "tool", "content": "4", "tool_call_id": "call00001", "name": "f"}
    asked = json.loads(json.dumps(conversation([first, thought, result])))
    assert asked.get("tools") == ([told] if tools else None)
    user, reply, answer = asked["messages"]
    assert user == {"role": "user", "content": "q"} and answer == result
    text = reply["tool_calls"][0]["function"].pop("arguments")
    assert isinstance(text, str) and json.loads(text) == arguments
    assert "weight" not in reply and reply["reasoning"] == reply["reasoning_content"] == "hm"


def test_the_first_token_that_differs_is_told() -> None:
    reply = Reply(row=2, turn=4, messages=(), ids=(1, 2, 3))
    assert differences([reply], [[1, 2, 3]]) == []
    (longer,) = differences([reply], [[1, 2, 3, 4]])
    assert longer.at == 3
    (other,) = differences([reply], [[1, 9]])
    assert str(other) == "row 2, turn 4: token 2 of 3: trained behind [2, 3], asked by [9]"


class Server(BaseHTTPRequestHandler):
    """Answers as the documents of vLLM and of llama.cpp say of these paths; each letter is a token, 1 begins a text."""

    llama_cpp = False

    def do_GET(self) -> None:
        self.answer({"build_info": "b1"} if self.path == "/props" and self.llama_cpp else None)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = "".join(f"<{one['content']}>" for one in asked.get("messages", ()))
        if not self.llama_cpp:
            told = {"tokens": [1, *map(ord, text)]} if self.path == "/tokenize" else None
        elif self.path == "/apply-template":
            told = {"prompt": text}
        else:
            begin = [1] if asked.get("add_special") else []
            told = {"tokens": begin + list(map(ord, asked.get("content", "")))}
        self.answer(told)

    def answer(self, told: object) -> None:
        self.send_response(404 if told is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("llama_cpp", [False, True])
def test_a_server_is_asked_for_the_tokens_of_a_conversation(llama_cpp: bool, tmp_path: Path) -> None:
    run = rundir.create(load("quickstart"), tmp_path, None)
    reply = Reply(row=1, turn=2, messages=({"role": "user", "content": "ab"},), ids=())
    kind = type("Kind", (Server,), {"llama_cpp": llama_cpp})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert of_server(run, [reply], f"{address}/v1/") == [[1, *map(ord, "<ab>")]]
        server.shutdown()
    with pytest.raises(UserError, match="does not answer as vLLM does"):
        of_server(run, [reply], address)


def test_prompts_with_tools_reach_the_worker(tmp_path: Path) -> None:
    message = {"role": "user", "content": "q", "tools": [{"type": "function", "function": {"name": "f"}}]}
    common = {"trust_remote_code": False, "target": "t", "prompts": ((message,),)}
    merge = Merge(base="b", revision=None, adapter="a", dtype="auto", **common)  # type: ignore[arg-type]
    prompts = Prompts(model="m", variables={}, **common)  # type: ignore[arg-type]
    for spec in (merge, prompts):
        write_typed(tmp_path / "spec.json", spec)
        assert read_typed(type(spec), tmp_path / "spec.json") == spec


def test_where_prompts_begin_to_differ_is_marked_in_the_row() -> None:
    first, second = (Reply(row=1, turn=turn, messages=(), ids=ids) for turn, ids in ((2, (1, 2)), (4, (1, 2, 3, 4))))
    one, other = differences([first, second], [[1, 2, 7], [1, 2]])
    assert _marks({"transformers": [one], "http://a": [other]}) == {
        2: "transformers asks for turn 2 by 7; http://a asks for turn 4 by nothing more"
    }
    part = Part(name="", ids=(1, 2, 3), loss=(False, False, True), pieces=("a", "b", "c"), spans=())
    row = Preview(row=1, place="p", truncated=False, parts=(part,), notes=(), problems=())
    lines = preview_text(row, colour=False, ids=True, marks={2: "here"}).splitlines()
    assert lines[-3:] == ["       1        'a'", "       2        'b'", "       3  loss  'c'  <- here"]
