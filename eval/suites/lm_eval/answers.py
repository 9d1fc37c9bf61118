"""What a model answers to lm-eval: kept, so that a killed evaluation goes on where it was, and without its thoughts.

lm-eval has a cache of its own, of pickles, which a received run must not bring along. And it takes a thought that never
ends for the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from eval.engines.cache import AnswerCache
from eval.engines.progress import say
from eval.suites.lm_eval.records import Unfinished, plain
from recipes.words import TAG

PARTS = "postprocess_generated_text"  # lm-eval's own, which cuts a reply behind the end of its thought
KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


def without_thoughts(lm: Any, tag: str) -> None:
    """Have a thought that never ends be no answer.

    Args:
        lm: one that knows the token that ends a thought, or none; then all is answer.
        tag: what the prompt has opened.
    """
    for kind in type(lm).__mro__:
        module = sys.modules[kind.__module__]
        if text := getattr(module, PARTS, None):
            first = text.args[0] if isinstance(text, partial) else text  # of the model before this one
            setattr(module, PARTS, partial(_answer, first, tag))


def _answer(text: Callable[..., str], tag: str, generation: str, stop: Any, think_end_token: str | None) -> str:
    begun = tag or TAG.match(generation.lstrip())
    if think_end_token and begun and think_end_token not in generation:
        return Unfinished()
    return text(generation, stop, think_end_token)


def keep(lm: Any, cache: AnswerCache, label: str) -> None:
    """Have an `lm_eval.api.model.LM` answer from the cache what it holds, and put into it what is new."""
    lm.set_cache_hook(_Hook(cache))
    for kind in KINDS:
        setattr(lm, kind, partial(_ask, kind, getattr(lm, kind), cache, label))


class _Hook:
    """lm-eval's models call it for each answer at once."""

    def __init__(self, cache: AnswerCache) -> None:
        self.cache = cache

    def add_partial(self, kind: str, arguments: Sequence[Any], answer: Any) -> None:
        if not _sampled(arguments):
            unfinished = {"unfinished": True} if isinstance(answer, Unfinished) else {}
            self.cache.add([(_key(self.cache, kind, arguments), {"told": answer, **unfinished})])


def _ask(
    kind: str, ask: Callable[..., list[Any]], cache: AnswerCache, label: str, requests: list[Any], **how: Any
) -> list[Any]:
    keys = ["" if _sampled(request.args) else _key(cache, kind, request.args) for request in requests]
    kept = [cache.get(key) for key in keys]
    missing = [request for request, one in zip(requests, kept, strict=True) if one is None]
    if len(missing) < len(requests):
        say(f"{label}: {len(requests) - len(missing)} of {len(requests)} requests were answered before")
    new = iter(ask(missing, **how) if missing else ())
    told = [next(new) if one is None else Unfinished() if "unfinished" in one else one["told"] for one in kept]
    return [tuple(one) if isinstance(one, list) else one for one in told]  # JSON has no tuples


def _sampled(arguments: Sequence[Any]) -> bool:
    """Whether the answer differs from one asking to the next."""
    how = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], dict) else {}
    return bool(how.get("do_sample") or how.get("temperature"))


def _key(cache: AnswerCache, kind: str, arguments: Sequence[Any]) -> str:
    return cache.key({"kind": f"lm_eval {kind}", "arguments": plain(arguments)})
