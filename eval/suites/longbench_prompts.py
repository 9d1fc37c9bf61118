"""LongBench's official prompts and limits, which training on its subsets takes too."""

from __future__ import annotations

import json
from pathlib import Path

from eval.rows import Row

DEFINITIONS = Path(__file__).parent / "definitions" / "longbench"
REPOSITORY, ARCHIVE = "THUDM/LongBench", "data.zip"  # a file of data, so that no code of the repository runs


def definitions() -> tuple[dict[str, str], dict[str, int]]:
    """The official prompts and new-token limits by subset."""
    prompts, limits = (
        json.loads((DEFINITIONS / f"dataset2{name}.json").read_text(encoding="utf-8")) for name in ("prompt", "maxlen")
    )
    return prompts, limits


def prompt(template: str, row: Row) -> str:
    """The text that a row asks."""
    return template.format(context=row["context"], input=row["input"])
