"""`recipe push` by huggingface_hub's own client to a small Hub here: what goes there, and what does not."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.conftest import Recipe

pytestmark = pytest.mark.real
TOKEN = "hf_" + "t" * 30


class Hub(BaseHTTPRequestHandler):
    """The Hub's interface for one who pushes: a repository, large files, and a commit of all."""

    protocol_version = "HTTP/1.1"
    private = True
    address = ""
    stored: dict[str, bytes] = {}  # noqa: RUF012 - of the one server of a test
    files: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._json({"id": "acme/tuned", "private": self.private, "sha": "1" * 40, "siblings": [], "tags": []})

    def do_PUT(self) -> None:
        data = self._body()
        self.stored[hashlib.sha256(data).hexdigest()] = data
        self._json({})

    def do_POST(self) -> None:
        body = self._body()
        self.asked.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            self._json({"url": f"{self.address}/acme/tuned", "name": "acme/tuned"})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [("lfs" if name.endswith(".safetensors") else "regular") for name in names]
            told = [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in zip(names, modes, strict=True)]
            self._json({"files": told})
        elif self.path.endswith("/info/lfs/objects/batch"):
            made = [
                {**one, "actions": {"upload": {"href": f"{self.address}/put/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._json({"objects": made, "transfer": "basic"})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.stored[value["oid"]]
            self._json({"commitUrl": f"{self.address}/acme/tuned/commit/1", "commitOid": "1" * 40})
        else:
            self._json({"error": "not found"}, 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    class Own(Hub):
        stored, files, asked = {}, {}, []  # type: ignore[var-annotated]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    Own.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield Own
    server.shutdown()


def test_the_model_and_its_card_are_pushed_and_nothing_else(
    recipe: Recipe, on_the_hub: Path, hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "my own rows.jsonl"
    rows.write_text("".join(json.dumps({"instruction": f"{n}?", "output": f"<b>{n}</b>"}) + "\n" for n in range(24)))
    given = [
        "model={path: acme/tiny, revision: v1}", f"data.train=[{{path: {rows}, format: alpaca}}]",
        "training.max_steps=2", "eval.loss_every=null", "eval.suites=[perplexity]", "checkpoint.every=null",
    ]  # fmt: skip
    recipe("run", "quickstart", "--name", "r", *[part for text in given for part in ("--set", text)])
    run = tmp_path / "runs/r"
    (run / "model/training_args.bin").write_bytes(b"a pickle")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    push = ["push", "r", "acme/tuned", "--private"]
    shown = recipe(*push, "--dry-run")
    assert "base_model: acme/tiny" in shown.stdout and not hub.asked
    assert "not pushed: training_args.bin" in shown.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    assert "set HF_TOKEN to one that may write" in recipe(*push, code=1).stderr
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = recipe(*push, "--license", "apache-2.0")
    assert done.stdout.strip().endswith("/acme/tuned/commit/1")

    assert hub.files.keys() >= {"README.md", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json"}
    assert "training_args.bin" not in hub.files
    for name in hub.files.keys() - {"README.md"}:
        assert hub.files[name] == (run / "model" / name).read_bytes()
    for name, data in hub.files.items():
        assert TOKEN.encode() not in data and str(tmp_path).encode() not in data, name
    card = hub.files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["base_model"], head["library_name"], head["license"]) == ("acme/tiny", "peft", "apache-2.0")
    assert (
        "perplexity" in card
        and "my own rows.jsonl" in card
        and "PeftModel.from_pretrained(model, 'acme/tuned')" in card
    )
    assert all(TOKEN not in file.read_text(errors="replace") for file in (run / "logs").iterdir())

    hub.private = False
    assert "is there and public" in recipe(*push, code=1).stderr
    assert "make it with `recipe merge r`" in recipe(*push, "--merged", code=2).stderr
    assert "write it as USER/NAME" in recipe("push", "r", "acme", code=2).stderr
