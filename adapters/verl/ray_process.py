"""What verl 0.9.1 needs in each process of Ray's; loaded there by VERL_USE_EXTERNAL_MODULES.

A name of each run's own for its Ray job: verl names the socket over which weights go to vLLM after Ray's job id
(workers/rollout/vllm_rollout), and the first job of every Ray is 01000000: of two runs on one machine the second would
take the first one's socket away.

An end with vLLM's engine: where that dies, its server lives on, and verl waits for it for ever.

Log-probabilities by ours (faster.py), before its engine takes verl's by name.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

from ray.runtime_context import RuntimeContext
from verl.utils import torch_functional

from adapters.verl.faster import log_probs

_job_id = RuntimeContext.get_job_id


def _own_job_id(self: RuntimeContext) -> str:
    return f"{_job_id(self)}-{os.environ['RECIPE_RAY_JOB']}"


RuntimeContext.get_job_id = _own_job_id
torch_functional.logprobs_from_logits = log_probs


def _end_with_engine() -> None:
    engines: list[multiprocessing.process.BaseProcess] = []
    while all(engine.is_alive() for engine in engines):
        time.sleep(5)
        engines += [child for child in multiprocessing.active_children() if child.name.startswith("EngineCore")]
    print("vLLM's engine has died, and its server ends with it", flush=True)
    os._exit(1)


threading.Thread(target=_end_with_engine, daemon=True).start()
