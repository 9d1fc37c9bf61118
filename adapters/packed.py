"""Attention within packs without a mask: each row attends to itself by where it begins and ends.

Without flash-attn, which has to be compiled, both backends tell packed rows apart by a mask of length x length, which
PyTorch's fast kernels do not take. PyTorch's own variable-length flash attention (torch.nn.attention.varlen) needs
neither; off a GPU, or in fp32, the rows are attended to one by one, which is the same and still less work than a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

NAME = "packed"


class Attention:
    """Attention of the packs of one batch at a time; takes over when it is told to, once the model is there.

    Not every family of transformers hands on to its attention what a call of the model gives, so the bounds stay here:
    a batch's backward pass, which computes activations again, ends before the next batch comes.

    Args:
        read: the bounds of a call's rows, by its keyword arguments; those without which the model is then called may
            be taken out of them.
    """

    def __init__(self, read: Callable[[dict[str, Any]], tuple[Any, int]]) -> None:
        self.read = read
        self.bounds: tuple[Any, int] | None = None

    def use(self, decoder: Any, called: Any) -> bool:
        """Take over, where a model would use PyTorch's attention (others have kinds of their own); whether it did.

        Args:
            decoder: the model's, so that what sees pictures keeps its own.
            called: the part of the model whose call is listened to: the decoder, or the whole.
        """
        from transformers import AttentionInterface

        if decoder.config._attn_implementation != "sdpa":
            return False
        AttentionInterface.register(NAME, self.attend)
        decoder.set_attn_implementation(NAME)
        if decoder.config._attn_implementation != NAME:  # code of the model's own, that asks for no implementation
            return False
        self.hook = called.register_forward_pre_hook(self._begin, with_kwargs=True)
        return True

    def leave(self, decoder: Any) -> None:
        """Give the attention back that it was taken from."""
        self.hook.remove()
        decoder.set_attn_implementation("sdpa")

    def _begin(self, model: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given = dict(given)
        self.bounds = self.read(given)
        return args, given

    def attend(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        **given: Any,
    ) -> tuple[Any, None]:
        """transformers' attention interface: query (B, H, S, D), key, value (B, H of theirs, S, D) to (B, S, H, D)."""
        import torch

        assert self.bounds
        starts, longest = self.bounds
        batch, heads, length, size = query.shape
        cast = _autocast(query)
        # (B, H, S, D) to (B x S, H, D): the packs of a batch one behind the other.
        q, k, v = (part.to(cast).transpose(1, 2).flatten(0, 1) for part in (query, key, value))
        if query.is_cuda and cast in (torch.bfloat16, torch.float16) and not dropout:
            from torch.nn.attention.varlen import varlen_attn

            window = (sliding_window - 1, 0) if sliding_window else (-1, 0)
            out = varlen_attn(q, k, v, starts, starts, longest, longest, scale=scaling, window_size=window)
        else:
            out = one_by_one(q, k, v, starts.tolist(), scaling, dropout, sliding_window)
        return out.view(batch, length, heads, size), None


def by_number(rows: Any) -> tuple[Any, int]:
    """Where each row begins, and at last the end, int32; and the longest row's tokens.

    Args:
        rows: (B, S), the number of the row in its pack that each token belongs to; 0 for filling, a row like others.
    """
    import torch

    packs = torch.arange(len(rows), device=rows.device)[:, None] * (int(rows.max()) + 1)
    _, lengths = torch.unique_consecutive((rows + packs).flatten(), return_counts=True)
    return _bounds(lengths)


def by_place(places: Any) -> tuple[Any, int]:
    """The same, of the place of each token in its row, (B, S): a row begins at each 0."""
    import torch

    starts = (places.flatten() == 0).nonzero().flatten()
    return _bounds(torch.diff(starts, append=starts.new_tensor([places.numel()])))


def _bounds(lengths: Any) -> tuple[Any, int]:
    import torch

    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32), int(lengths.max())


def _autocast(tensor: Any) -> Any:
    """Norms of the queries leave them in fp32 under autocast."""
    import torch

    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def one_by_one(
    q: Any,
    k: Any,
    v: Any,
    starts: list[int],
    scale: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
) -> Any:
    """Each row's attention by itself, (T, H, D) to the same; `window`: the tokens that each of them looks back on."""
    import torch

    found = []
    for start, end in pairwise(starts):
        parts = [part[start:end].transpose(0, 1)[None] for part in (q, k, v)]
        near = None
        if window and end - start > window:
            place = torch.arange(end - start, device=q.device)
            far = place[:, None] - place
            near = (far >= 0) & (far < window)
        row = torch.nn.functional.scaled_dot_product_attention(
            *parts, attn_mask=near, dropout_p=dropout, is_causal=near is None, scale=scale, enable_gqa=True
        )
        found.append(row[0].transpose(0, 1))
    return torch.cat(found)
