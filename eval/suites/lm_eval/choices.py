"""lm-eval's model on transformers, whose log-likelihoods our engine answers.

What the choices of a question have in common, and the questions of a task (its description, its examples where they are
the same for all), is computed once. The numbers are made of the logits as lm-eval makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from eval.engines.batching import common_prefix
from eval.engines.cache import Answer
from eval.engines.progress import progress
from eval.engines.requests import Score
from eval.engines.transformers_engine import TransformersEngine
from recipes.encode import IGNORE
from recipes.errors import UserError

# A request of lm-eval's: its texts, and the ids of context and continuation.
Tokenized = tuple[tuple[str, str], list[int], list[int]]


class ChoiceLM(HFLM):  # type: ignore[misc]
    """HFLM, but for the requests `loglikelihood`: those of multiple choice, and of single continuations."""

    def __init__(self, *, batch_tokens: int, label: str, bar: bool, **how: Any) -> None:
        super().__init__(**how)
        self._label, self._bar = label, bar
        self._engine = _Engine(self.model, self.tokenizer, batch_tokens, self.max_length)
        self._engine.softmax_dtype = self.softmax_dtype
        self._tasks: list[str] | None = None

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        self._tasks = [request.task_name for request in requests]
        try:
            return list(super().loglikelihood(requests, disable_tqdm=True))
        finally:
            self._tasks = None

    def _loglikelihood_tokens(self, requests: list[Tokenized], **how: Any) -> list[tuple[float, bool]]:
        if self._tasks is None:  # windows of loglikelihood_rolling
            return list(super()._loglikelihood_tokens(requests, **how))
        fits = [n for n, (_, context, rest) in enumerate(requests) if len(context) + len(rest) <= self.max_length]
        found = self._shared([requests[n] for n in fits], [self._tasks[n] for n in fits])
        answers = dict(zip(fits, found, strict=True))
        others = [n for n in range(len(requests)) if n not in answers]  # which lm-eval cuts from the left
        answers |= zip(others, super()._loglikelihood_tokens([requests[n] for n in others], **how), strict=True)
        return [answers[n] for n in range(len(requests))]

    def _shared(self, requests: Sequence[Tokenized], tasks: Sequence[str]) -> list[tuple[float, bool]]:
        common = {
            task: common_prefix([r[1] for r, own in zip(requests, tasks, strict=True) if own == task])
            for task in set(tasks)
        }
        scores = [
            Score(ids=[*context, *rest], labels=[IGNORE] * len(context) + rest, shared=(common[task], len(context)))
            for (_, context, rest), task in zip(requests, tasks, strict=True)
        ]
        advance = progress(self._label, len(scores), self._bar)
        found: dict[int, tuple[float, bool]] = {}
        for batch in self._engine.score(scores):
            for n, answer in batch:
                if "error" in answer:
                    raise UserError(f"{self._label}: {answer['error']}")
                found[n] = (answer["log-likelihood"], answer["greedy"])
                self.cache_hook.add_partial("loglikelihood", requests[n][0], found[n])
            advance(len(batch))
        return [found[n] for n in range(len(scores))]


class _Engine(TransformersEngine):
    softmax_dtype: torch.dtype | None = None  # None: that of the logits

    def _scored(self, logits: torch.Tensor, targets: torch.Tensor, counts: list[int]) -> list[Answer]:
        answers: list[Answer] = []
        for rows, wanted in zip(logits.split(counts), targets.to(logits.device).split(counts), strict=True):
            told = rows.log_softmax(-1, dtype=self.softmax_dtype)
            greedy = bool((told.argmax(-1) == wanted).all())
            answers.append({"log-likelihood": float(told.gather(-1, wanted[:, None]).sum()), "greedy": greedy})
        return answers
