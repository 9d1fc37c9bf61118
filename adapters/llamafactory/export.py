"""Turns a checkpoint, or the newest whole one, into the run's `model/`: the weights, their config and the tokenizer.

Usage: python -m adapters.llamafactory.export CHECKPOINTS|CHECKPOINT MODEL [CHAT_TEMPLATE]
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from adapters.llamafactory.checkpoints import whole_checkpoints

WANTED = (
    "adapter_model*", "adapter_config.json", "model*.safetensors", "model.safetensors.index.json", "config.json",
    "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "chat_template.*",
)  # fmt: skip


def export(checkpoints: Path, model: Path, template: Path | None) -> None:
    one = checkpoints.name.startswith("checkpoint-")
    found = whole_checkpoints(checkpoints.parent if one else checkpoints)
    chosen = next((c.path for c in found if not one or c.path == checkpoints), None)
    if chosen is None:
        raise SystemExit(f"no whole checkpoint under {checkpoints}: the trainer did not finish one")
    temporary = model.with_name(f".{model.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for pattern in WANTED:
        for file in chosen.glob(pattern):
            _link(file, temporary / file.name)
    if template:
        shutil.copyfile(template, temporary / "chat_template.jinja")
    shutil.rmtree(model, ignore_errors=True)
    temporary.rename(model)


def _link(source: Path, target: Path) -> None:
    """A hard link costs no disk; another file system, or one without links, takes a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
