"""Answers with vLLM, on GPU or CPU: its scheduler makes the batches, its cache shares what requests begin with."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.engines import VLLM_ON_CPU, Batch, fits
from eval.engines.cache import Answer
from eval.engines.directory import ModelFiles, locate
from eval.engines.greedy import end_tokens
from eval.engines.loading import device_of, dtype_of, load_model
from eval.engines.requests import Generate, Score, Value
from eval.metrics.thoughts import as_answer, reply_text
from eval.spec import Chat, Model, Spec
from recipes.encode import IGNORE
from recipes.errors import UserError

# In this process, so that a killed worker leaves no child behind, and no word about it to anyone.
ALWAYS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
DEFAULTS = {**VLLM_ON_CPU, "VLLM_LOGGING_LEVEL": "ERROR"}
TOKENS_AT_ONCE = 2048  # in one pass: bounds the float32 logits of scored prompts at 2048 × vocabulary


def set_environment() -> None:
    """What vLLM reads when it is first imported."""
    os.environ.update(ALWAYS)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def load(model: Model, spec: Spec, tokenizer: Any, turn: Collection[int] = (), *, share: float = 1.0) -> VllmEngine:
    """Load a model, or an adapter merged into its base.

    Args:
        share: of the GPU's memory that vLLM would take for itself.

    Raises:
        UserError: it cannot be loaded, or vLLM is not in this environment.
    """
    set_environment()
    try:
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
    except ImportError as error:
        raise UserError(f"engine vllm: {error}; use the engine transformers here") from None
    cleanup_dist_env_and_memory()  # of the model before this one
    files = locate(model)
    if files.value_head:
        raise UserError(
            f"model {model.name}: engine vllm: it does not take a reward model; use the engine transformers"
        )
    try:
        with whole_model(model, files, spec) as directory:
            return _engine(directory, files, spec, tokenizer, turn, share)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UserError(f"model {model.name}: vLLM cannot load {files.directory}: {first}") from None


@contextmanager
def whole_model(model: Model, files: ModelFiles, spec: Spec) -> Iterator[Path]:
    """The model's directory; of an adapter, one that holds it merged, as the transformers engine merges it."""
    if files.base is None:
        yield files.directory
        return
    with tempfile.TemporaryDirectory(prefix="merged-") as merged:
        whole = load_model(model, files, replace(spec, dtype="float32", device="cpu"))
        whole.to(dtype_of(spec.dtype, device_of(spec.device), _config(files.base, spec))).save_pretrained(merged)
        del whole
        yield Path(merged)


def _config(directory: Path, spec: Spec) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(directory), trust_remote_code=spec.trust_remote_code)


def _engine(
    directory: Path, files: ModelFiles, spec: Spec, tokenizer: Any, turn: Collection[int], share: float
) -> VllmEngine:
    from transformers import GenerationConfig
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    config = _config(directory, spec)
    arguments = EngineArgs(
        model=str(directory),
        skip_tokenizer_init=True,  # ours makes the ids and reads them
        trust_remote_code=spec.trust_remote_code,
        dtype=str(dtype_of(spec.dtype, current_platform.device_type, config)).removeprefix("torch."),
        max_model_len=-1,  # all that the model takes, or as much of it as fits
        max_num_batched_tokens=TOKENS_AT_ONCE,
        enable_prefix_caching=True,
        generation_config="vllm",  # greedy, whatever sampling the model's own settings propose
        enforce_eager=current_platform.is_cpu(),
        gpu_memory_utilization=EngineArgs.gpu_memory_utilization * share,
        use_tqdm_on_load=False,
        seed=spec.seed,
    )
    has_settings = (directory / "generation_config.json").is_file()
    settings = GenerationConfig.from_pretrained(str(directory)) if has_settings else None
    ends = end_tokens(settings, config, tokenizer, turn)
    return VllmEngine(LLMEngine.from_engine_args(arguments), tokenizer, ends, files.max_positions())


class VllmEngine:
    """A causal language model in vLLM, with greedy decoding."""

    def __init__(self, llm: Any, tokenizer: Any, ends: frozenset[int], max_positions: int) -> None:
        import torch
        import vllm

        self.llm = llm
        self.tokenizer = tokenizer
        self._ends = ends
        self.max_positions = min(max_positions, llm.model_config.max_model_len)
        self.identity = {
            "engine": "vllm",
            "dtype": str(llm.model_config.dtype).removeprefix("torch."),
            "device": vllm.platforms.current_platform.device_type,
            "torch": torch.__version__,
            "vllm": vllm.__version__,
            "ends": sorted(ends),
        }

    def score(self, requests: Sequence[Score]) -> Iterator[Batch]:
        fitting, too_long = fits([len(request.ids) for request in requests], self.max_positions)
        if too_long:
            yield too_long
        for n in _by_prefix(fitting, requests):
            self._ask_score(n, requests[n], use_cache=True)
        for outputs in self._finished():
            batch: Batch = []
            for output in outputs:
                n = int(output.request_id)
                # vLLM has no log-probabilities of what it took from its cache: then once more without.
                if (output.num_cached_tokens or 0) > requests[n].first_needed:
                    self._ask_score(n, requests[n], use_cache=False)
                else:
                    batch.append((n, _scored(requests[n], output)))
            yield batch

    def _ask_score(self, n: int, request: Score, use_cache: bool) -> None:
        """Ask for the tokens up to the last scored one, which is forced: a prompt must leave room for one more."""
        from vllm import SamplingParams

        *prompt, last = request.ids[: _end(request)]
        parameters = SamplingParams(
            temperature=0, max_tokens=1, allowed_token_ids=[last], logprobs=0, prompt_logprobs=0, detokenize=False,
            skip_reading_prefix_cache=not use_cache,
        )  # fmt: skip
        self.llm.add_request(str(n), {"prompt_token_ids": prompt}, parameters)

    def generate(self, requests: Sequence[Generate]) -> Iterator[Batch]:
        from vllm import SamplingParams

        fitting, too_long = fits([len(r.ids) + r.most for r in requests], self.max_positions)
        if too_long:
            yield too_long
        for n in _by_prefix(fitting, requests):
            parameters = SamplingParams(
                temperature=0, max_tokens=requests[n].most, detokenize=False,
                stop_token_ids=sorted(self._ends | requests[n].ends), min_tokens=1 if requests[n].ends else 0,
            )  # fmt: skip
            self.llm.add_request(str(n), {"prompt_token_ids": requests[n].ids}, parameters)
        for outputs in self._finished():
            indices = [int(output.request_id) for output in outputs]
            yield [(n, self._reply(requests[n], output)) for n, output in zip(indices, outputs, strict=True)]

    def stream(self, ids: list[int], most: int, chat: Chat) -> Iterator[dict[str, str]]:
        """One reply in pieces of text, as they are made, and how it ended."""
        from vllm import SamplingParams

        parameters = SamplingParams(
            temperature=chat.temperature, top_p=chat.top_p, max_tokens=most, detokenize=False,
            stop_token_ids=sorted(self._ends),
        )  # fmt: skip
        self.llm.add_request("reply", {"prompt_token_ids": ids}, parameters)
        said, made = "", list[int]()
        while self.llm.has_unfinished_requests():
            for output in self.llm.step():
                made = list(output.outputs[0].token_ids)
                text = reply_text(self.tokenizer, [token for token in made if token not in self._ends])
                # A character whose bytes are not all there yet changes with the next token.
                if (text.startswith(said) and not text.endswith("\ufffd")) or output.finished:
                    yield {"text": text[len(said) :]}
                    said = text
        yield {"end": "stop" if made and made[-1] in self._ends else "length"}

    def value(self, requests: Sequence[Value]) -> Iterator[Batch]:
        yield [(n, {"error": "vllm takes no reward model"}) for n in range(len(requests))]

    def _finished(self) -> Iterator[list[Any]]:
        """What each step of vLLM's ends, until nothing is left."""
        while self.llm.has_unfinished_requests():
            done = [output for output in self.llm.step() if output.finished]
            if done:
                yield done

    def _reply(self, request: Generate, output: Any) -> Answer:
        made = list(output.outputs[0].token_ids)
        end = next((n for n, t in enumerate(made) if t in self._ends or t in request.ends), None)
        return as_answer(self.tokenizer, request, made[:end], finished=end is not None)


def _by_prefix(members: Sequence[int], requests: Sequence[Score] | Sequence[Generate]) -> list[int]:
    """Requests that begin alike one after the other, so that what they share is still in the cache."""
    return sorted(members, key=lambda n: requests[n].ids)


def _end(request: Score) -> int:
    return max(n for n, label in enumerate(request.labels) if label != IGNORE) + 1


def _scored(request: Score, output: Any) -> Answer:
    """The sum over the scored tokens of the prompt, and the forced one after it."""
    last = _end(request) - 1
    known = {**dict(enumerate(output.prompt_logprobs)), last: output.outputs[0].logprobs[0]}
    scored = [n for n, label in enumerate(request.labels) if n and label != IGNORE]
    return {"nll": -sum(known[n][request.ids[n]].logprob for n in scored), "tokens": len(scored)}
