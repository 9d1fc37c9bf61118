"""The judge's protocol against a small real server: retries, failures apart, verdicts kept, the key secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

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
    assert measure["implementation"] == "judge wise, 1 to 5 as 0 to 1"
    assert len(seen) == 7  # six replies, one of them twice
    assert {key for key, _ in seen} == {f"Bearer {KEY}"}
    assert all(body["model"] == "wise" and "[Reference answer]" in body["messages"][0]["content"] for _, body in seen)
    records = [json.loads(line) for line in (tmp_path / "out" / "reference.jsonl").read_text().splitlines()]
    assert [r["judge"].get("error") for r in records[:3]] == [
        None, "judge: no clear score from 1 to 5 in the reply 'I cannot tell'", "judge: HTTP 401",
    ]  # fmt: skip
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
