"""Gives each run's Ray job a name of its own on the machine; loaded by VERL_USE_EXTERNAL_MODULES in every process.

verl 0.9.1 names the socket over which weights go to vLLM after Ray's job id (workers/rollout/vllm_rollout), and the
first job of every Ray is 01000000: of two runs on one machine the second would take the first one's socket away.
"""

from __future__ import annotations

import os

from ray.runtime_context import RuntimeContext

_job_id = RuntimeContext.get_job_id


def _own_job_id(self: RuntimeContext) -> str:
    return f"{_job_id(self)}-{os.environ['RECIPE_RAY_JOB']}"


RuntimeContext.get_job_id = _own_job_id
