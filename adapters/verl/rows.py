"""The prepared rows as verl's SFT trainer reads them (`data.custom_cls`): the tokens and mask of every backend."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset


class TokenizedRows(Dataset[dict[str, torch.Tensor]]):  # type: ignore[misc]
    """One split of `data/tokenized`.

    The trainer leaves out the rows after the last whole batch, in training and in validation. So that none is lost, the
    rows are filled up to whole batches with rows of two tokens without loss, which weigh nothing.

    Args (as verl gives them):
        parquet_files: directory of the split.
        tokenizer: of the model.
        config: verl's `data` section; `train_batch_size` (global) and `seed` are read.
    """

    def __init__(self, parquet_files: str, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1):
        from datasets import load_from_disk

        rows = load_from_disk(parquet_files)
        wanted = (
            "input_ids",
            "labels",
            *(("attention_mask", "position_ids") if "position_ids" in rows.features else ()),
        )
        self.rows = rows.with_format("torch", columns=list(wanted))
        # The trainer's own shuffle has a fixed seed; a permutation beneath it makes the order follow the recipe's.
        generator = torch.Generator().manual_seed(config.seed)
        order: list[int | None] = torch.randperm(len(self.rows), generator=generator).tolist()
        self.order = order + [None] * (-len(order) % config.train_batch_size)
        self.filler = torch.full((2,), tokenizer.pad_token_id or 0)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """input_ids, position_ids, loss_mask, each of shape (tokens,)."""
        place = self.order[index]
        if place is None:
            ids, mask = self.filler, torch.zeros_like(self.filler)
        else:
            row = self.rows[place]
            if "position_ids" in row:  # a pack: what fills it up is left out, its rows begin anew
                row = {name: values[row["attention_mask"] > 0] for name, values in row.items()}
            ids, mask = row["input_ids"], (row["labels"] != -100).long()
            mask[0] = 0  # nothing precedes the first token: the loss would fall on the row before
        positions = row["position_ids"] if place is not None and "position_ids" in row else torch.arange(len(ids))
        return {"input_ids": ids, "position_ids": positions, "loss_mask": mask}
