"""Answers with transformers, on CPU or GPU: prefixes computed once, logits only where needed, batches by length."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

import torch
import transformers

from eval.engines import Batch, fits
from eval.engines.batching import by_length
from eval.engines.cache import Answer
from eval.engines.directory import locate
from eval.engines.greedy import decode, end_tokens
from eval.engines.head import Head, ValueHead
from eval.engines.loading import load_model
from eval.engines.pack import PACK, Group, group_by_prefix, pack, packs, size
from eval.engines.prefix import fork, prefix_groups, shareable, takes_trees
from eval.engines.requests import Generate, Score, Value
from eval.metrics.thoughts import as_answer
from eval.spec import Model, Spec
from recipes.encode import IGNORE

R = TypeVar("R", Score, Generate, Value)
Cache = Any
ROWS_AT_ONCE = 256  # of logits turned to float32: bounds the copy at 256 × vocabulary


def load(model: Model, spec: Spec, tokenizer: Any, turn: Collection[int] = ()) -> TransformersEngine:
    """Load a model or adapter.

    Raises:
        UserError: it cannot be loaded.
    """
    files = locate(model)
    whole = load_model(model, files, spec)
    value_head = ValueHead(files.value_head) if files.value_head else None
    return TransformersEngine(whole, tokenizer, spec.batch_tokens, files.max_positions(), turn, value_head)


class TransformersEngine:
    """A causal language model of transformers, with greedy decoding and no logits processors."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        batch_tokens: int,
        max_positions: int,
        turn: Collection[int] = (),
        value_head: ValueHead | None = None,
    ) -> None:
        torch.set_grad_enabled(False)
        self.value_head = value_head
        self.model = model
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.head = Head(model)
        self._ends = end_tokens(getattr(model, "generation_config", None), model.config, tokenizer, turn)
        self.can_pack = takes_trees(model)
        self.max_positions = max_positions
        self.identity = {
            "engine": "transformers",
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": model.device.type,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "ends": sorted(self._ends),
        }

    def score(self, requests: Sequence[Score]) -> Iterator[Batch]:
        yield from self._all(requests, lambda r: r.first_needed, lambda r: len(r.ids), self._score)

    def generate(self, requests: Sequence[Generate]) -> Iterator[Batch]:
        yield from self._all(requests, lambda r: len(r.ids) - 1, lambda r: len(r.ids) + r.most, self._generate, True)

    def value(self, requests: Sequence[Value]) -> Iterator[Batch]:
        yield from self._all(requests, lambda r: len(r.ids) - 1, lambda r: len(r.ids), self._value)

    def _all(
        self,
        requests: Sequence[R],
        first_needed: Callable[[R], int],
        size: Callable[[R], int],
        answer: Callable[[list[R], Cache, int], list[Answer]],
        padded: bool = False,
    ) -> Iterator[Batch]:
        """Walk the prefixes that requests share, and answer what hangs on each in batches.

        `first_needed` is the first position whose logits a request needs: no prefix may reach beyond it. `padded`: the
        answers put padding between a prefix and what follows it.
        """

        def walk(members: list[int], level: int, cache: Cache, past: int) -> Iterator[Batch]:
            if cache is not None and self.can_pack:
                batches, members = self._packs(members, requests, level, cache, past)
                yield from batches
            cuts = {n: min(requests[n].shared[level], first_needed(requests[n])) for n in members
                    if len(requests[n].shared) > level}  # fmt: skip
            groups, alone = prefix_groups({n: requests[n].ids[past:cut] for n, cut in cuts.items()})
            for prefix, group in groups:
                longer = self._extend(prefix, cache, padded)
                if longer is None:
                    alone += group
                else:
                    yield from walk(group, level + 1, longer, past + len(prefix))
            alone += [n for n in members if n not in cuts]
            for batch in by_length([size(requests[n]) for n in alone], self.batch_tokens):
                yield from self._halving([alone[n] for n in batch], requests, cache, past, answer)

        fitting, too_long = fits([size(request) for request in requests], self.max_positions)
        if too_long:
            yield too_long
        yield from walk(fitting, 0, None, 0)

    def _extend(self, prefix: Sequence[int], cache: Cache, padded: bool) -> Cache:
        """The cache with a prefix behind it; None where this model's cache cannot be shared."""
        with self.head.keeping(None):
            out = self.model(
                input_ids=torch.tensor([list(prefix)], device=self.model.device),
                past_key_values=fork(cache, 1),
                use_cache=True,
            )
        longer = getattr(out, "past_key_values", None)  # Mamba's has another name
        return longer if shareable(longer, padded) else None

    def _halving(
        self,
        batch: list[int],
        requests: Sequence[R],
        cache: Cache,
        past: int,
        answer: Callable[[list[R], Cache, int], list[Answer]],
    ) -> Iterator[Batch]:
        """Answer a batch; one too large for the memory is answered in halves, down to single requests."""
        try:
            yield list(zip(batch, answer([requests[n] for n in batch], cache, past), strict=True))
            return
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if len(batch) == 1:
            yield [(batch[0], {"error": "out of memory"})]
            return
        for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
            yield from self._halving(half, requests, cache, past, answer)

    def _packs(
        self, members: list[int], requests: Sequence[Any], level: int, cache: Cache, past: int
    ) -> tuple[Iterator[Batch], list[int]]:
        """The answers to those that a pack can hold (asked as they are read), and the other members."""
        last = [n for n in members if isinstance(requests[n], Score) and len(requests[n].shared) == level + 1]
        cuts = {n: min(requests[n].shared[level], requests[n].first_needed) for n in last}
        groups = group_by_prefix({n: requests[n].ids[past:cut] for n, cut in cuts.items()})
        small = [group for group in groups if size(group, requests, past) <= PACK]
        packed = {n for group in small for n in group.members}
        batches = (self._score_pack(groups, requests, cache, past) for groups in packs(small, requests, past))
        return batches, [n for n in members if n not in packed]

    def _score_pack(self, groups: list[Group], requests: Sequence[Score], cache: Cache, past: int) -> Batch:
        packed, device = pack(groups, requests, past, self.model.dtype), self.model.device
        kept = packed.targets != IGNORE
        with self.head.keeping(kept.to(device)):
            out = self.model(
                input_ids=packed.ids.to(device),
                attention_mask=packed.mask.to(device),
                position_ids=packed.positions.to(device),
                past_key_values=fork(cache, 1),
                use_cache=True,
            )
        counts = [requests[n].tokens for n in packed.members]
        answers = self._scored(self.head.kept(out.logits), packed.targets[kept], counts)
        return list(zip(packed.members, answers, strict=True))

    def _score(self, requests: list[Score], cache: Cache, past: int) -> list[Answer]:
        rows = [request.ids[past:] for request in requests]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self.model.device)
        # Position t gives the token at t + 1. Padding stands on the right, where a causal model does not look.
        targets = torch.full((len(rows), width), IGNORE)
        for n, request in enumerate(requests):
            labels = request.labels[past + 1 :]
            targets[n, : len(labels)] = torch.tensor(labels, dtype=torch.long)
        kept = targets != IGNORE
        with self.head.keeping(kept.to(self.model.device)):
            out = self.model(input_ids=ids, past_key_values=fork(cache, len(rows)), use_cache=cache is not None)
        return self._scored(self.head.kept(out.logits), targets[kept], kept.sum(1).tolist())

    def _scored(self, logits: torch.Tensor, targets: torch.Tensor, counts: list[int]) -> list[Answer]:
        """The answers to requests of so many tokens each, by the logits (tokens × vocabulary) before these targets."""
        nll = _nll(logits, targets).split(counts)
        return [{"nll": float(row.sum()), "tokens": len(row)} for row in nll]

    def _value(self, requests: list[Value], cache: Cache, past: int) -> list[Answer]:
        """Padding stands on the right, where the last token of a sequence does not look."""
        assert self.value_head, "only a reward model is asked for its scores"
        last = torch.tensor([len(request.ids) - 1 for request in requests])
        rows = [request.ids + [0] * (int(last.max()) + 1 - len(request.ids)) for request in requests]
        with self.head.keeping(None):
            out = self.model(
                input_ids=torch.tensor(rows, device=self.model.device), output_hidden_states=True, use_cache=False
            )
        return [{"value": one} for one in self.value_head(out.hidden_states[-1][torch.arange(len(rows)), last])]

    def _generate(self, requests: list[Generate], cache: Cache, past: int) -> list[Answer]:
        decoded = decode(self.model, self.head, requests, self._ends, fork(cache, len(requests)), past)
        broken: Answer = {"error": "the model's logits are no numbers"}
        replies = zip(requests, decoded, strict=True)
        return [broken if found is None else as_answer(self.tokenizer, request, *found) for request, found in replies]


def _nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of each target (n), of logits (n × vocabulary), in float64 nats.

    `logsumexp − logit` keeps no second array of the vocabulary's size, as log_softmax would.
    """
    targets = targets.to(logits.device)
    parts = []
    for rows, wanted in zip(logits.split(ROWS_AT_ONCE), targets.split(ROWS_AT_ONCE), strict=True):
        rows = rows.float()
        parts.append((rows.logsumexp(-1) - rows.gather(-1, wanted[:, None])[:, 0]).double().cpu())
    return torch.cat(parts)
