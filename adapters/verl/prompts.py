"""The prepared prompts as verl's GRPO trainer reads them (`data.custom_cls`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset


class Prompts(Dataset[dict[str, Any]]):  # type: ignore[misc]
    """One split of `data/*.jsonl`; arguments as verl gives them. Prompts come checked for their length."""

    def __init__(self, data_files: str, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1):
        lines = Path(data_files).read_text(encoding="utf-8").splitlines()
        self.rows = [json.loads(line) for line in lines]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return {
            "raw_prompt": row["prompt"],
            "data_source": "recipe",
            "reward_model": {"style": "rule", "ground_truth": row["answer"]},
            "extra_info": {"index": index, "row": row},
            "index": index,
            "dummy_tensor": torch.tensor([0], dtype=torch.uint8),  # its batches may not be without a tensor
        }
