"""Turns what the trainer left behind into the run's `model/`: the weights, their config and the tokenizer.

Usage: python -m adapters.llamafactory.export CHECKPOINTS|CHECKPOINT MODEL ACCOUNTING [CHAT_TEMPLATE]
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from adapters.stops import write_end_tokens

# all_results.json is written after the final weights: without it the training did not come to its end.
FINISHED = "all_results.json"
WANTED = (
    "adapter_model*", "adapter_config.json", "model*.safetensors", "model.safetensors.index.json", "config.json",
    "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "chat_template.*",
)  # fmt: skip


def export(checkpoints: Path, model: Path, accounting: Path, template: Path | None) -> None:
    if not checkpoints.name.startswith("checkpoint-") and not (checkpoints / FINISHED).is_file():
        raise SystemExit(f"{checkpoints / FINISHED} is missing: the trainer did not finish")
    temporary = model.with_name(f".{model.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for pattern in WANTED:
        for file in checkpoints.glob(pattern):
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
