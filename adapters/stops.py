"""Writes into a trained model where its generation stops, when its template ends turns with a token it did not know.

A base model declares its end of text; trained on ChatML it ends turns with `<|im_end|>`, and would talk on after it.
"""

from __future__ import annotations

import json
from pathlib import Path


def write_end_tokens(model: Path, accounting: Path) -> None:
    """Write `model/`'s end tokens, as the data preparation found them (`end_tokens` of its accounting)."""
    found = json.loads(accounting.read_text(encoding="utf-8")).get("end_tokens")
    if not found:
        return
    _update(model / "generation_config.json", "eos_token_id", found["ids"], create=True)
    if found["tokenizer"]:
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            _update(model / name, "eos_token", found["token"])


def _update(file: Path, key: str, value: str | list[int], *, create: bool = False) -> None:
    if not (create or file.is_file()):
        return
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.unlink(missing_ok=True)  # it may be a link to the checkpoint's, which stays as it is
    file.write_text(json.dumps(content | {key: value}, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
