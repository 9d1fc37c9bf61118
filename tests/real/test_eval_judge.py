"""The judge's protocol against a small real server: retries, failures apart, verdicts kept, the key secret."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.real.conftest import inside
from tests.real.test_eval_worker import _results, _rows, _run, _spec

pytestmark = pytest.mark.real

KEY = "sk-very-secret"


class Endpoint(BaseHTTPRequestHandler):
    """Says 4 of most; busy at first of row 0, unsure of row 1, and out of order for row 2."""

    seen: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.headers["Authorization"], body))
        prompt = body["messages"][0]["content"]
        again = sum(b == body for _, b in self.seen) > 1
        status = 401 if "What is 2 percent" in prompt else 429 if "What is 0 percent" in prompt and not again else 200
        content = "I cannot tell" if "What is 1 percent" in prompt else "Score: 4"
        answer = {"choices": [{"message": {"content": content}}]} if status == 200 else {"error": f"key {KEY}"}
        payload = json.dumps(answer).encode()
        self.send_response(status if self.path == "/v1/chat/completions" else 404)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    Endpoint.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", Endpoint.seen
    server.shutdown()
    server.server_close()


def test_the_judge_is_asked_once_and_its_failures_are_counted_apart(
    eval_python: Path, tiny_model: Path, tmp_path: Path, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = endpoint
    monkeypatch.setenv("JUDGE_KEY", KEY)
    judge = {"base_url": url, "model": "wise", "key_env": "JUDGE_KEY", "backoff_s": 0.01}
    spec = _spec(tmp_path, tiny_model, rows=str(_rows(tmp_path / "rows.jsonl", 6)), suites=["reference"],
                 max_new_tokens=4, judge=judge)  # fmt: skip
    said = _run(eval_python, spec)
    measure = _results(tmp_path)["metrics"]["reference.judge"]
    assert (measure["value"], measure["n"], measure["failures"]) == (0.75, 4, 2)
    assert measure["implementation"] == "judge wise, 1 to 5 as 0 to 1, read beside no other figure"
    assert len(seen) == 7  # six replies, one of them twice
    assert {key for key, _ in seen} == {f"Bearer {KEY}"}
    assert all(body["model"] == "wise" and "[Reference answer]" in body["messages"][0]["content"] for _, body in seen)
    records = [json.loads(line) for line in (tmp_path / "out" / "reference.jsonl").read_text().splitlines()]
    assert [r["judge"].get("error") for r in records[:3]] == [
        None, "judge: no clear score from 1 to 5 in the reply", "judge: HTTP 401",
    ]  # fmt: skip
    assert records[1]["judge"]["reply"] == "I cannot tell"
    assert "reference: 1 failed: judge: HTTP 401" in said and "1 failed: judge: no clear score" in said
    said += _run(eval_python, spec)
    assert len(seen) == 9  # only the two failures are tried again
    assert KEY not in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({"base_url": "http://x/v1", "model": "m", "key_env": "NO_SUCH_KEY"}, "variable NO_SUCH_KEY is not set"),
        ({"base_url": "http://me:pass@x/v1", "model": "m"}, "without user and password"),
        ({"base_url": "http://x/v1", "modell": "m"}, "judge.modell: unknown key; did you mean 'model'?"),
    ],
)
def test_a_judge_that_cannot_work_is_named_before_any_model_is_asked(
    eval_python: Path, tiny_model: Path, tmp_path: Path, judge: dict[str, Any], message: str
) -> None:
    rows = str(_rows(tmp_path / "rows.jsonl", 1))
    said = _run(eval_python, _spec(tmp_path, tiny_model, rows=rows, suites=["reference"], judge=judge), code=2)
    assert message in said and "me:pass" not in said
    assert not (tmp_path / "out" / "cache").exists()


class Moody(BaseHTTPRequestHandler):
    """A judge in one of several moods; `seen` counts the requests."""

    mood: str
    seen: int

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).seen += 1
        payload = json.dumps({"choices": [{"message": {"content": "5"}}]}).encode()
        status = 200
        if self.mood == "hangs":
            self.server.over.wait(30)  # type: ignore[attr-defined]
        elif self.mood == "slow":
            time.sleep(0.4)
        elif self.mood == "page":
            payload = b"<html>gateway</html>"
        elif self.mood == "no text":
            payload = json.dumps({"choices": [{"message": {"content": None}}]}).encode()
        elif self.mood == "busy at first":
            status = 429 if self.seen <= 6 else 200
        elif self.mood == "every third":
            status = 200 if self.seen % 3 == 0 else 401
        else:
            status = int(self.mood)
        with contextlib.suppress(OSError):  # who asked has gone
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


ASK = """
import json, sys, time
from pathlib import Path
from eval.engines.cache import AnswerCache
from eval.spec import Judge
from eval.suites.judge import verdicts
cache = AnswerCache(Path("judge.jsonl"), {})
asked = [{"question": f"{n}?", "reference": "x \\ud83d", "answer": "y"} for n in range(int(sys.argv[2]))]
start = time.monotonic()
sys.stderr = sys.stdout
judge = Judge(base_url=sys.argv[1], model="m", backoff_s=0.02, timeout_s=float(sys.argv[3]))
found = verdicts(judge, asked, cache, "j")
print(json.dumps([found, time.monotonic() - start]))
"""


@pytest.mark.parametrize(
    ("mood", "timeout", "scored", "requests", "why"),
    [
        ("401", 5, 0, range(20, 25), "HTTP 401"),
        ("404", 5, 0, range(20, 25), "HTTP 404"),
        ("503", 5, 0, range(20, 25), "HTTP 503"),
        ("page", 5, 0, range(20, 25), "the reply is not a chat completion"),
        ("hangs", 0.3, 0, range(8, 17), "ReadTimeout"),
        ("dead", 5, 0, range(1), "ConnectError"),
        ("slow", 5, 60, range(60, 61), ""),
        ("busy at first", 5, 60, range(66, 67), ""),
        ("every third", 5, 20, range(60, 61), ""),
        ("no text", 5, 0, range(60, 61), ""),
    ],
)
def test_a_judge_that_never_answers_is_given_up_and_one_that_does_is_not(
    eval_python: Path, tmp_path: Path, mood: str, timeout: float, scored: int, requests: range, why: str
) -> None:
    """Of 60 replies; what was not asked counts as failed and is asked the next time."""
    Moody.mood, Moody.seen = mood, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    server.daemon_threads = True
    server.over = Event()  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{server.server_port}/v1"
    if mood == "dead":
        server.server_close()
    else:
        Thread(target=server.serve_forever, daemon=True).start()
    try:
        out = inside(eval_python, ASK, url, "60", str(timeout), cwd=tmp_path).splitlines()
        *said, last = out
        found, seconds = json.loads(last)
        asked = Moody.seen
        assert sum(verdict.get("score") == 1.0 for verdict in found) == scored and len(found) == 60
        assert asked in requests
        reasons = {verdict["error"] for verdict in found if "error" in verdict}
        assert ("judge given up" in reasons) == bool(why)
        assert any("given up after" in line and line.endswith(why) for line in said) == bool(why)
        if why:
            assert {f"judge: {why}", "judge given up"} >= reasons
            assert seconds < 4
            Moody.mood = "200"
        if why and mood != "dead":
            *_, last = inside(eval_python, ASK, url, "60", str(timeout), cwd=tmp_path).splitlines()
            assert [verdict["score"] for verdict in json.loads(last)[0]] == [1.0] * 60
    finally:
        server.over.set()  # type: ignore[attr-defined]
        if mood != "dead":
            server.shutdown()
            server.server_close()
