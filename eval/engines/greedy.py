"""Greedy decoding of a batch in which finished rows leave at once, from prompts of different lengths."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch

from eval.engines.head import Head
from eval.engines.requests import Generate
from recipes.errors import UserError

Decoded = tuple[list[int], bool]  # new token ids without the stop token; whether one was met


def decode(
    model: Any, head: Head, requests: list[Generate], ends: frozenset[int], cache: Any, past: int
) -> list[Decoded | None]:
    """Continue each prompt, of which `past` tokens are in the cache already (one row each).

    None for one at which the model's logits are no numbers.
    """
    state = _Batch(requests, model.device, past)
    out: list[Decoded | None] = [([], False)] * len(requests)
    made: list[list[int]] = [[] for _ in requests]
    rows = list(range(len(requests)))
    ids = state.ids
    while True:
        last = torch.zeros_like(ids, dtype=torch.bool)
        last[:, -1] = True
        with head.keeping(last):
            step = model(input_ids=ids, past_key_values=cache, use_cache=True, **state.places(ids.shape[1]))
        if not (cache := getattr(step, "past_key_values", None)):
            name = type(model).__name__
            raise UserError(f"{name} keeps no keys and values, with which replies are made here; use the engine vllm")
        likeliest = _allowed(head.kept(step.logits), requests, ends, first=not any(made)).max(-1)
        chosen, broken = likeliest.indices, likeliest.values.isnan().tolist()
        going = []
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            if broken[place]:
                out[row] = None
                continue
            stopped = token in ends or token in requests[row].ends
            if not stopped:
                made[row].append(token)
            if stopped or len(made[row]) == requests[row].most:
                out[row] = (made[row], stopped)
            else:
                going.append(place)
        if not going:
            return out
        if len(going) < len(rows):
            keep = torch.tensor(going, device=model.device)
            cache.reorder_cache(keep)  # which layers of every kind have
            state.select(keep)
            chosen, rows = chosen[keep], [rows[place] for place in going]
        ids = chosen[:, None]


def _allowed(logits: torch.Tensor, requests: list[Generate], ends: frozenset[int], first: bool) -> torch.Tensor:
    """The logits (rows × vocabulary) without the tokens that may not come first; every request has its row then."""
    if not first or not any(request.ends for request in requests):
        return logits
    logits = logits.clone()
    for row, request in enumerate(requests):
        if request.ends:
            logits[row, sorted(ends | request.ends)] = -math.inf
    return logits


class _Batch:
    """Left-padded prompts with their mask and positions; without a mask where all are equally long."""

    def __init__(self, requests: list[Generate], device: Any, past: int) -> None:
        rows = [request.ids[past:] for request in requests]
        width = max(map(len, rows))
        self.ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
        self.padding = torch.tensor([width - len(row) for row in rows], device=device)
        self.past = past
        self.length = past  # of what the cache will hold before the next pass

    def select(self, keep: torch.Tensor) -> None:
        self.padding = self.padding[keep]

    def places(self, new: int) -> dict[str, torch.Tensor]:
        """The positions of the next `new` tokens, which then count as seen, and the mask where some are padding.

        A model whose first layer is no attention takes them for the first ones where no positions are given (Bamba).
        """
        start, self.length = self.length, self.length + new
        places = torch.arange(self.length, device=self.ids.device)[None]
        pad = self.padding[:, None]
        positions = (places[:, start:] - pad).clamp(min=0)
        if not bool(self.padding.any()):
            return {"position_ids": positions}
        mask = (places < self.past) | (places >= self.past + pad)  # the padding stands behind the shared prefix
        return {"attention_mask": mask.long(), "position_ids": positions}


def end_tokens(settings: Any, config: Any, tokenizer: Any, turn: Collection[int] = ()) -> frozenset[int]:
    """The end tokens of the model's generation settings (or configuration), the tokenizer's, and those of a turn.

    A base model declares its end of text: replies to a template's turns would run on through invented ones.
    """
    own = getattr(settings, "eos_token_id", None)
    own = own if own is not None else config.eos_token_id
    every = [*own, tokenizer.eos_token_id] if isinstance(own, list) else [own, tokenizer.eos_token_id]
    return frozenset(token for token in (*every, *turn) if token is not None)
