"""Files of the Hub by their hf:// paths, as huggingface_hub's own client reads them from a small Hub here."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import inside

pytestmark = pytest.mark.real
FILES = {
    "data/train-0.JSONL.gz": gzip.compress(b'{"n": 1}\n{"n": 2}\n'),
    "data/train-1.csv": "n\n3\n".encode("utf-16"),
    "data/test.json": b'{"data": [{"n": 4}]}',
    "README.md": b"no data",
}
CODE = """
import json, os, sys
os.environ.update(HF_ENDPOINT=sys.argv[1], HF_HUB_OFFLINE="0")
from runner.data.read import BadData, files_of, read
from runner.data.spec import source_of
def found(url, split):
    try:
        left = files_of(source_of(url, split=split))[0].left_out
        rows = list(read(source_of(url, split=split)))
        return [[int(row.value["n"]) for row in rows], sorted({row.file for row in rows}), sorted(left)]
    except BadData as error:
        return str(error)
print(json.dumps([found(*question) for question in json.loads(sys.argv[2])]))
"""


class Hub(BaseHTTPRequestHandler):
    """The data set acme/rows of the Hub's interface: what it is, what lies in a folder, and the bytes of a file."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "/resolve/main/" in path:
            self._file(FILES[path.partition("/resolve/main/")[2]])
        elif "/api/datasets/acme/rows/tree/main" in path:
            self._folder(path.partition("/tree/main")[2].strip("/"), "recursive=true" in self.path)
        elif path.startswith("/api/datasets/acme/rows"):
            self._json({"id": "acme/rows", "sha": "2" * 40, "siblings": [], "private": False})
        else:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _folder(self, folder: str, recursive: bool) -> None:
        below = [name for name in FILES if not folder or name.startswith(f"{folder}/")]
        entries: dict[str, Any] = {}
        for name in below:
            rest = name.removeprefix(f"{folder}/")
            top = name.removesuffix(rest) + rest.partition("/")[0]
            if recursive or top == name:
                entries[name] = {"type": "file", "path": name, "size": len(FILES[name]), "oid": "1" * 40}
            if top != name:
                entries[top] = {"type": "directory", "path": top, "oid": "0" * 40}
        self._json(list(entries.values()))

    def _file(self, data: bytes) -> None:
        first, _, last = (self.headers.get("Range") or "bytes=0-").partition("=")[2].partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        where = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._send(part, 206 if "Range" in self.headers else 200, {"Content-Range": where, "ETag": '"1"'})

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, headers or {})

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data)), "X-Repo-Commit": "2" * 40}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.cold
def test_files_of_the_hub_are_read_by_their_paths(llamafactory_python: Path, tmp_path: Path, hub: str) -> None:
    place = "hf://datasets/acme/rows"
    train = [f"{place}/data/train-0.JSONL.gz", f"{place}/data/train-1.csv"]
    asked = {
        (f"{place}/data/train-0.JSONL.gz", "train"): [[1, 2], train[:1], []],
        (f"{place}/data/", "train"): [[1, 2, 3], train, ["test"]],
        (f"{place}/data", "test"): [[4], [f"{place}/data/test.json"], ["train"]],
        (f"{place}/data/*.csv", "train"): [[3], train[1:], []],
        (f"{place}@main/data/t*.json", "train"): [[4], [f"{place}@main/data/test.json"], []],
        (f"{place}/none.jsonl", "train"): f"{place}/none.jsonl: nothing there; check the name, and your access",
    }
    told = [*asked, ("hf://datasets/acme/other/a.jsonl", "train")]
    answers = json.loads(inside(llamafactory_python, CODE, hub, json.dumps(told), cwd=tmp_path).splitlines()[-1])
    assert dict(zip(asked, answers, strict=False)) == asked
    assert answers[-1].startswith("hf://datasets/acme/other/a.jsonl: ") and "not found" in answers[-1]
