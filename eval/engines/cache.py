"""What an engine answered, kept on disk: a killed evaluation goes on where it was, metrics change without inference.

An answer's key is the hash of all that determines it (model content, tokenizer, token ids, settings), so a changed
model finds nothing. Lines are only ever appended, and synced once a batch; a last line torn by a kill is left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eval.hashes import json_hash

Answer = dict[str, Any]


class AnswerCache:
    """Answers by key, in one file of JSON lines."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """`identity` is what all requests share: model hash, tokenizer hash, engine, dtype."""
        self.path = path
        self.identity = json_hash(identity)
        self.answers: dict[str, Answer] = {}
        if path.is_file():
            self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        for line in content.split(b"\n"):
            try:
                entry = json.loads(line)
                self.answers[entry["key"]] = entry["answer"]
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill, or the empty end
        if content and not content.endswith(b"\n"):
            self._append(b"\n")  # or the next line would be lost with the torn one

    def key(self, request: Mapping[str, Any]) -> str:
        return json_hash([self.identity, request])

    def get(self, key: str) -> Answer | None:
        return self.answers.get(key)

    def add(self, entries: Iterable[tuple[str, Answer]]) -> None:
        """Keep the answers of one batch; on the disk when this returns. Failures are not kept: they are tried again."""
        kept = {key: answer for key, answer in entries if "error" not in answer}
        self.answers |= kept
        lines = [json.dumps({"key": key, "answer": answer}, ensure_ascii=False) + "\n" for key, answer in kept.items()]
        if lines:
            self._append("".join(lines).encode("utf-8", "surrogatepass"))

    def _append(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
