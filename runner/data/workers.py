"""Encodes chunks of rows on all cores, in their order: what comes out does not depend on how many there are."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any, TypeVar

from recipes.errors import UserError

Chunk = TypeVar("Chunk")
Encode = Callable[[Sequence[Any]], list[Any]]

WORKERS = "RECIPE_WORKERS"
MOST = 16
AHEAD = 16  # chunks that are read before the first is encoded, however many workers: problems come in one order
ENOUGH = 4  # chunks for which workers are worth their start

_encode: Encode | None = None  # in a worker, as it was forked


def number() -> int:
    """How many processes encode: RECIPE_WORKERS, else the cores that this process may use, at most 16.

    Raises:
        UserError: RECIPE_WORKERS is no such number.
    """
    if given := os.environ.get(WORKERS, ""):
        if not re.fullmatch("[1-9][0-9]{0,2}", given):
            raise UserError(f"environment variable {WORKERS}={given!r}; allowed: 1 to 999")
        return int(given)
    return min(MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def encoded(chunks: Iterator[tuple[Chunk, Sequence[Any]]], encode: Encode) -> Iterator[tuple[Chunk, list[Any]]]:
    """Each chunk with what `encode` makes of it.

    What reading raises comes after the chunks before it.

    Args:
        chunks: each with its conversations.
        encode: gives one result for each conversation; without state that rows change.
    """
    waiting: deque[tuple[Chunk, Sequence[Any], Future[list[Any]] | None]] = deque()
    failure: Exception | None = None
    pool: ProcessPoolExecutor | None = None
    with ExitStack() as stack:
        more = True
        while more or waiting:
            while more and len(waiting) < AHEAD:
                try:
                    chunk, conversations = next(chunks)
                except StopIteration:
                    more = False
                except Exception as error:  # noqa: BLE001 - raised below, when the chunks before it are through
                    more, failure = False, error
                else:
                    waiting.append((chunk, conversations, pool.submit(_in_worker, conversations) if pool else None))
            if pool is None and len(waiting) >= ENOUGH and number() > 1:
                pool = stack.enter_context(_pool(encode))
                waiting = deque((chunk, given, pool.submit(_in_worker, given)) for chunk, given, _ in waiting)
            if waiting:
                chunk, conversations, future = waiting.popleft()
                yield chunk, future.result() if future else encode(conversations)
    if failure:
        raise failure


def _pool(encode: Encode) -> ProcessPoolExecutor:
    global _encode
    _encode = encode  # forked with the tokenizer that it holds: nothing is loaded again
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each worker is one
    return ProcessPoolExecutor(number(), mp_context=get_context("fork"))


def _in_worker(conversations: Sequence[Any]) -> list[Any]:
    assert _encode
    return _encode(conversations)
