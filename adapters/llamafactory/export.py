"""Turns a checkpoint, or the newest whole one, into the run's `model/`: the weights, their config and the tokenizer.

Usage: python -m adapters.llamafactory.export CHECKPOINTS|CHECKPOINT MODEL ACCOUNTING [CHAT_TEMPLATE]
           [--initial ADAPTER]

--initial: what an adapter of a residual began with, so that it is made one of the base.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

from adapters.initial_adapter import subtracted
from adapters.llamafactory.checkpoints import whole_checkpoints
from adapters.stops import write_end_tokens
from recipes.model_files import HEAD

WANTED = (
    "adapter_model*", "adapter_config.json", HEAD, "model*.safetensors", "model.safetensors.index.json", "config.json",
    "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "chat_template.*",
)  # fmt: skip


def export(
    checkpoints: Path, model: Path, accounting: Path, template: Path | None, initial: Path | None = None
) -> None:
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
    if initial:
        _of_the_base(temporary, initial)
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


def _of_the_base(adapter: Path, initial: Path) -> None:
    """Rewrite an adapter of a residual, in its directory, as one of the base that its initial adapter names."""
    from safetensors.torch import load_file, save_file

    config, first = (json.loads((place / "adapter_config.json").read_text("utf-8")) for place in (adapter, initial))
    trained, begun = (load_file(place / "adapter_model.safetensors") for place in (adapter, initial))
    found, told = subtracted(trained, begun, config)
    told |= {key: first[key] for key in ("base_model_name_or_path", "revision")}
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (adapter / name).unlink()  # they are links to the checkpoint's own
    save_file(found, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    (adapter / "adapter_config.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("checkpoints", "model", "accounting"):
        parser.add_argument(name, type=Path)
    parser.add_argument("template", type=Path, nargs="?")
    parser.add_argument("--initial", type=Path)
    given = parser.parse_args()
    export(given.checkpoints, given.model, given.accounting, given.template, given.initial)
