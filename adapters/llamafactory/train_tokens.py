"""The loss of a step as the mean of its tokens in models that read pictures too.

Of these transformers says that they take no count of a step's tokens (`accepts_loss_kwargs`), and averages its micro
batches: a token of a short row weighs more than one of a long row, and other micro batches are another training. Some
do take the count, Liger's among them; for the others the loss is computed of their logits.
"""

from __future__ import annotations

import weakref
from typing import Any


class Tokens:
    """Knows the Trainer, which callbacks are not told; weakly: held to the end, DeepSpeed's would abort the process."""

    def __init__(self) -> None:
        from transformers import Trainer

        made = Trainer.__init__

        def init(trainer: Any, *args: Any, **given: Any) -> None:
            made(trainer, *args, **given)
            self.trainer = weakref.ref(trainer)

        Trainer.__init__ = init

    def use(self, args: Any, model: Any, loader: Any) -> None:
        trainer: Any = self.trainer()
        if trainer.model_accepts_loss_kwargs or trainer.compute_loss_func:
            return
        if takes_count(args, model, loader):
            trainer.model_accepts_loss_kwargs = True
        else:
            trainer.compute_loss_func = mean_of_tokens


def takes_count(args: Any, model: Any, loader: Any) -> bool:
    """Whether the loss that a model gives is a sum over the count that it is told: found out by trying."""
    import torch

    ids = list(range(5, 21))
    row = {"input_ids": ids, "attention_mask": [1] * len(ids), "position_ids": list(range(len(ids))), "labels": ids}
    batch = {name: value.to(args.device) for name, value in loader.collate_fn([row]).items()}
    model.train()  # Liger's kernels compute another loss without
    with torch.no_grad():
        one, two = (float(model(**batch, num_items_in_batch=torch.tensor(n)).loss) for n in (1, 2))
    return abs(one / two - 2) < 1e-2


def mean_of_tokens(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """As the Trainer asks for a loss; labels (rows, tokens), and the count of the step, None in evaluations."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    logits = outputs["logits"]
    return ForCausalLMLoss(logits, labels, vocab_size=logits.shape[-1], num_items_in_batch=num_items_in_batch)
