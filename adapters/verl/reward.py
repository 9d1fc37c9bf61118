"""The recipe's rewards as verl calls them (`reward.custom_reward_function`), in workers of their own.

verl drops the replies whose reward raises and trains on the others. So an error is written to RECIPE_REWARD_FAILURES,
and the trainer stops the run before it learns from the batch (grpo_trainer.py).
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from adapters.verl.grpo import PART
from recipes import rewards
from recipes.types import Reward


@cache
def _loaded() -> list[rewards.Named]:
    told = json.loads(Path(os.environ["RECIPE_REWARDS"]).read_text(encoding="utf-8"))
    return rewards.load([Reward(**reward) for reward in told])


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any], **_more: Any
) -> dict[str, float]:
    """`score` and each part; a score of 0 where a reward failed, which no one trains on."""
    try:
        found = rewards.score(_loaded(), solution_str, ground_truth, extra_info["row"])
    except rewards.RewardError as error:
        line = json.dumps({"error": str(error), "reply": solution_str[:200]}, ensure_ascii=False) + "\n"
        with Path(os.environ["RECIPE_REWARD_FAILURES"]).open("a", encoding="utf-8") as stream:
            stream.write(line)
        return {"score": 0.0}
    return {"score": found.total} | {f"{PART}{name}": value for name, value in found.parts.items()}
