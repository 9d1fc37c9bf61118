"""Who answers: each engine is a module with one `load`, listed in `ENGINES` and imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

from eval.engines.cache import Answer
from eval.engines.requests import Generate, Score, Value
from eval.spec import Model, Spec

# vLLM on a CPU: threads as OMP_NUM_THREADS says, and 4 GiB of cache, not most of the machine's memory. It would compile
# its sampler, eager or not: half a minute at each start, and a C++ compiler that a user's machine need not have.
VLLM_ON_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "4", "TORCHDYNAMO_DISABLE": "1"}

Batch = list[tuple[int, Answer]]  # index of the request, its answer


class Engine(Protocol):
    """A loaded model that answers requests, batch by batch, in the order that suits it.

    An answer is `{"nll": nats, "tokens": n}` to Score, `{"text", "tokens", "finished"}` to Generate, `{"value": score}`
    to Value, or `{"error": why}`.
    """

    identity: dict[str, Any]  # what determines the answers beside model and request: name, dtype, device, versions
    max_positions: int  # the longest sequence the model was made for

    def score(self, requests: Sequence[Score]) -> Iterator[Batch]: ...
    def generate(self, requests: Sequence[Generate]) -> Iterator[Batch]: ...
    def value(self, requests: Sequence[Value]) -> Iterator[Batch]: ...


class EngineModule(Protocol):
    """What an engine's module offers."""

    def load(self, model: Model, spec: Spec, tokenizer: Any, turn: Collection[int] = ()) -> Engine:
        """Load a model; `turn`: tokens at which its replies end besides its own, as its template ends a turn.

        Raises:
            UserError: it cannot be loaded.
        """
        ...


ENGINES = {"transformers": "eval.engines.transformers_engine", "vllm": "eval.engines.vllm_engine"}


def engine_module(name: str) -> EngineModule:
    return importlib.import_module(ENGINES[name])  # type: ignore[return-value]


def fits(sizes: Sequence[int], max_positions: int) -> tuple[list[int], Batch]:
    """The requests of at most so many tokens, and an error for each of the others."""
    error = f"longer than the model's {max_positions} positions"
    return (
        [n for n, size in enumerate(sizes) if size <= max_positions],
        [(n, {"error": f"{size} tokens: {error}"}) for n, size in enumerate(sizes) if size > max_positions],
    )
