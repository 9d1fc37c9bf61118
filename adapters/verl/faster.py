"""What verl 0.9.1 computes slowly where flash-attn is not installed: the same, fast, and in 32 bits on a CPU too.

Its engine then asks for the log-probability of each token by a call of its own, and keeps the rows of a padding-free
batch apart by a mask of all tokens by all tokens.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import torch

from adapters import apart, packed

ROWS = 256  # of the logits that are in fp32 at once


class LogProbs(torch.autograd.Function):  # type: ignore[misc]
    """The log-probability of each label in fp32, (T,), of logits of any float, (T, V), and labels (T,).

    In place, the gradient takes the logits' memory: for where nothing reads them after it.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, inplace: bool) -> torch.Tensor:
        ctx.inplace = inplace
        sums = torch.cat([part.float().logsumexp(-1) for part in logits.split(ROWS)])
        ctx.save_for_backward(logits, labels, sums)
        return logits.gather(1, labels[:, None])[:, 0].float() - sums

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, labels, sums = ctx.saved_tensors
        found = logits if ctx.inplace else torch.empty_like(logits)
        parts = (each.split(ROWS) for each in (logits, found, labels, sums, gradient))
        for part, target, label, total, weight in zip(*parts, strict=True):
            share = (part.float() - total[:, None]).exp_().mul_(-weight[:, None])
            target.copy_(share.scatter_add_(1, label[:, None], weight[:, None].to(share.dtype)))
        return found, None, None


def log_probs(logits: torch.Tensor, labels: torch.Tensor, inplace_backward: bool = True) -> torch.Tensor:
    """In place of verl's `logprobs_from_logits`: logits (…, V) and labels (…) to (…)."""
    found: torch.Tensor = LogProbs.apply(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), inplace_backward)
    return found.view(labels.shape)


def check_kernels(model: Any, needed: bool) -> None:
    """Take Liger's kernels out of verl's `model` config where it would pass over them without a word.

    Raises:
        SystemExit: they are needed.
    """
    if not model.use_liger:
        return
    missing = "this environment has no liger-kernel"
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
        from transformers import AutoConfig

        family = AutoConfig.from_pretrained(model.path, trust_remote_code=model.trust_remote_code).model_type
        missing = "" if family in MODEL_TYPE_TO_APPLY_LIGER_FN else f"Liger has none for the family {family}"
    if missing and needed:
        sys.exit(f"training.kernels: liger is not possible: {missing}; use none or auto")
    model.use_liger = not missing
    print(f"kernels: {f'none, as {missing}' if missing else 'liger'}", flush=True)


def install() -> None:
    """Before the engine is built."""
    from verl.workers.engine.fsdp import transformer_impl

    transformer_impl.logprobs_from_logits = log_probs


def attend(engine: Any) -> bool:
    """Have the rows of a padding-free batch attend to themselves alone, without a mask.

    Returns:
        whether the model keeps them apart now: layers that are no attention may not, and it is left as it was then.
        With sequence parallelism, which needs flash-attn, it is not tried.
    """
    from transformers import PreTrainedModel

    # In whatever it is wrapped; PEFT calls a model's `forward`, so the part beneath is listened to.
    model = next(part for part in engine.module.modules() if isinstance(part, PreTrainedModel))
    attention = packed.Attention(lambda given: packed.by_place(given["position_ids"]))
    decoder = model.get_decoder()
    used = attention.use(decoder, decoder)
    kept: bool = engine.engine_config.ulysses_sequence_parallel_size > 1
    if not kept:
        with engine.eval_mode():
            kept = apart.keeps_apart(lambda rows: _logits(engine, rows), model)
    if used and not kept:
        attention.leave(decoder)
    print(f"attention: {'each row by itself' if used and kept else decoder.config._attn_implementation}", flush=True)
    return kept


def _logits(engine: Any, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """As its `forward_step` calls a model; of each token what it makes of all others, or of the next one."""
    from verl.utils.device import get_device_id

    device, kind = get_device_id(), engine._autocast_dtype
    ids = torch.tensor([[token for row in rows for token in row]], device=device)
    places = torch.tensor([[place for row in rows for place in range(len(row))]], device=device)
    with torch.autocast(ids.device.type, dtype=kind, enabled=kind != torch.float32):
        found = engine.module(input_ids=ids, attention_mask=None, position_ids=places, use_cache=False)
    logits: torch.Tensor = found.log_probs if found.logits is None else found.logits
    return logits[0]
