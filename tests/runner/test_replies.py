"""The replies that are kept of a preparation, against a search in the rendered text; what differs is told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes import UserError, load
from recipes.encode import IGNORE
from runner.data.replies import Reply, _replies
from runner.runs import rundir
from runner.runs.tokens import differences, of_server

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
    found = list(_replies(1, messages, list(map(ord, ids)), labels, last_only=last_only))
    assert [(reply.turn, "".join(map(chr, reply.ids))) for reply in found] == expected
    assert [reply.messages for reply in found] == [tuple(messages[: turn - 1]) for turn, _ in expected]


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
