"""Asks an engine what the cache does not know yet, and keeps each batch of answers as it comes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

from eval.engines import Batch, Engine
from eval.engines.cache import Answer, AnswerCache
from eval.engines.estimate import seconds, tokens_to_read
from eval.engines.progress import duration, progress, say
from eval.engines.requests import Generate, Request, Sample, Score, Value


def ask(
    samples: Sequence[Sample], engine: Engine, cache: AnswerCache, label: str, bar: bool = False
) -> list[list[Answer]]:
    """The answers to each sample's requests, in their order. Equal requests are asked once."""
    keys = [[cache.key(request.key()) for request in sample.requests] for sample in samples]
    wanted: dict[str, Request] = {
        key: request
        for sample, own in zip(samples, keys, strict=True)
        for key, request in zip(own, sample.requests, strict=True)
    }
    missing = {key: request for key, request in wanted.items() if cache.get(key) is None}
    failed = _ask_missing(missing, len(wanted), engine, cache, label, bar)
    return [[cache.get(key) or failed[key] for key in own] for own in keys]


def _ask_missing(
    missing: dict[str, Request], wanted: int, engine: Engine, cache: AnswerCache, label: str, bar: bool
) -> dict[str, Answer]:
    """Ask, and return the failures, which the cache does not keep."""
    if len(missing) < wanted:
        say(f"{label}: {wanted - len(missing)} of {wanted} requests were answered before")
    if not missing:
        return {}
    expected = seconds(list(missing.values()), engine)
    if expected is not None:
        read = tokens_to_read(missing.values())
        say(f"{label}: {len(missing)} requests, {read} prompt tokens: at most about {duration(expected)}")
    advance = progress(label, len(missing), bar)
    failed: dict[str, Answer] = {}
    scored = {key: request for key, request in missing.items() if isinstance(request, Score)}
    generated = {key: request for key, request in missing.items() if isinstance(request, Generate)}
    valued = {key: request for key, request in missing.items() if isinstance(request, Value)}
    for batch in chain(
        _named(list(scored), engine.score(list(scored.values()))),
        _named(list(generated), engine.generate(list(generated.values()))),
        _named(list(valued), engine.value(list(valued.values()))),
    ):
        batch = [(key, _a_number(answer)) for key, answer in batch]
        cache.add(batch)
        failed |= {key: answer for key, answer in batch if "error" in answer}
        advance(len(batch))
    return failed


def _a_number(answer: Answer) -> Answer:
    """The answer, or a failure: a model with a broken weight gives likelihoods and scores that are none, in silence."""
    for name, text in (("nll", "log-likelihood"), ("value", "score")):
        if not math.isfinite(answer.get(name, 0.0)):
            return {"error": f"the {text} is not a finite number: {answer[name]}"}
    return answer


def _named(names: list[str], batches: Iterator[Batch]) -> Iterator[list[tuple[str, Answer]]]:
    return ([(names[n], answer) for n, answer in batch] for batch in batches)
