"""How long an evaluation will take, said before it starts: a probe of the engine's speed times the tokens to come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from eval.engines import Engine
from eval.engines.requests import Generate, Request, Score
from recipes.encode import IGNORE

WORTH_A_PROBE = 20_000  # tokens; below it the answer is there before the estimate
PROBE, NEW = 128, 8  # tokens


def tokens_to_read(requests: Iterable[Request]) -> int:
    """Prompt tokens that must be computed, each shared prefix counted once."""
    total = 0
    seen: set[tuple[int, ...]] = set()
    for request in requests:
        known = 0
        for cut in request.shared:
            prefix = tuple(request.ids[:cut])
            if prefix in seen:
                known = max(known, cut)
            seen.add(prefix)
        total += len(request.ids) - known
    return total


def seconds(requests: Sequence[Request], engine: Engine) -> float | None:
    """An upper estimate, as if every reply had its full length; None where the work is too small to ask."""
    reading = tokens_to_read(requests)
    writing = sum(request.max_new_tokens for request in requests if isinstance(request, Generate))
    if reading + 10 * writing < WORTH_A_PROBE:
        return None
    ids = max(requests, key=lambda request: len(request.ids)).ids[:PROBE]
    per_read = _timed(lambda ids: list(engine.score([_last(ids)])), ids) / len(ids)
    if not writing:
        return reading * per_read
    per_write = _timed(lambda ids: list(engine.generate([Generate(ids=ids, max_new_tokens=NEW)])), ids[:8]) / NEW
    return reading * per_read + writing * per_write


def _last(ids: list[int]) -> Score:
    return Score(ids=ids, labels=[IGNORE] * (len(ids) - 1) + ids[-1:])


def _timed(ask: Callable[[list[int]], object], ids: list[int]) -> float:
    """The second of two calls: the first warms up, on other tokens, which an engine's cache could not give again."""
    ask(ids[::-1])
    start = time.perf_counter()
    ask(ids)
    return time.perf_counter() - start
