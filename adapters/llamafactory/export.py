"""Turns a checkpoint, or the newest whole one, into the run's `model/`: the weights, their config and the tokenizer.

Usage: python -m adapters.llamafactory.export CHECKPOINTS|CHECKPOINT MODEL ACCOUNTING [CHAT_TEMPLATE]
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from adapters.llamafactory.checkpoints import whole_checkpoints
from adapters.stops import write_end_tokens

WANTED = (
    "adapter_model*", "adapter_config.json", "model*.safetensors", "model.safetensors.index.json", "config.json",
    "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "chat_template.*",
)  # fmt: skip


def export(checkpoints: Path, model: Path, accounting: Path, template: Path | None) -> None:
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
    write_end_tokens(temporary, accounting)
    shutil.rmtree(model, ignore_errors=True)
    temporary.rename(model)


def _link(source: Path, target: Path) -> None:
    """A hard link costs no disk; another file system, or one without links, takes a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    places = [Path(argument) for argument in sys.argv[1:]]
    export(places[0], places[1], places[2], places[3] if len(places) > 3 else None)
