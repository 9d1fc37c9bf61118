"""What verl's GRPO is as a recipe's: advantages, clipping, divergence, rewards."""

from __future__ import annotations

from adapters.verl.options import tree
from runner.imports.taken import Entry, Simple, Taken, number

ACTOR, ROLLOUT = "actor_rollout_ref.actor.", "actor_rollout_ref.rollout."
_REWARD = "verl scores by the rows' data_source and reward_model: choose a reward, and give rows an answer"


def _clip(taken: Taken) -> None:
    """verl clips by clip_ratio_low and clip_ratio_high, 0.2 each; an older one has clip_ratio alone."""
    both, low, high = (f"{ACTOR}clip_ratio{end}" for end in ("", "_low", "_high"))
    if taken.left.get(low) is None and taken.left.get(high) is None:
        taken.simple([Simple(both, "grpo.clip_ratio", number)])
    else:
        taken.drop(both, "verl clips by clip_ratio_low and clip_ratio_high")
    if taken.left.get(low) is not None and taken.left.get(high) is None:
        taken.assume(high, "grpo.clip_ratio_high", tree("grpo")[high].default)


def _mini_batch(taken: Taken) -> None:
    """verl's default makes several steps of the prompts of one rollout, where they are more."""
    key, prompts = f"{ACTOR}ppo_mini_batch_size", taken.whole("data.train_batch_size", 1024)
    if taken.left.get(key) is not None:
        taken.put(key, "grpo.mini_batch_size", taken.left[key])
    elif prompts > tree("grpo")[key].default:
        taken.assume(key, "grpo.mini_batch_size", tree("grpo")[key].default)


def take_grpo(taken: Taken) -> None:
    taken.assume("", "method", "grpo")
    _clip(taken)
    _mini_batch(taken)
    if taken.left.get(f"{ROLLOUT}n") is None:
        why = "verl samples one reply by default, which has no others beside it; recipes have grpo.rollouts.n: 8"
        taken.entries.append(Entry(f"{ROLLOUT}n", 1, "no place", why))
    estimators = {"grpo": "grpo", "rloo": "rloo", "reinforce_plus_plus": "reinforce++"}
    named = taken.left.setdefault("algorithm.adv_estimator", "gae")  # verl's default: PPO
    if named in estimators:
        taken.put("algorithm.adv_estimator", "grpo.advantage", estimators[named])
    else:
        taken.drop("algorithm.adv_estimator", f"recipes have {', '.join(estimators.values())}, and dr_grpo")
    coefficient = taken.left.get(f"{ACTOR}kl_loss_coef", 0.001)
    if taken.left.get(f"{ACTOR}use_kl_loss"):
        taken.put(f"{ACTOR}kl_loss_coef", "grpo.kl_coef", coefficient)
        taken.put(f"{ACTOR}use_kl_loss", "grpo.kl_in", "loss")
    elif taken.left.get("algorithm.use_kl_in_reward"):
        value = taken.left.get("algorithm.kl_ctrl.kl_coef", 0.001)
        taken.put("algorithm.kl_ctrl.kl_coef", "grpo.kl_coef", value)
        taken.put("algorithm.use_kl_in_reward", "grpo.kl_in", "reward")
    else:
        taken.assume(f"{ACTOR}use_kl_loss", "grpo.kl_coef", 0.0)
    for key in (f"{ACTOR}use_kl_loss", f"{ACTOR}kl_loss_coef", "algorithm.use_kl_in_reward"):
        if not taken.left.get(key):
            taken.left.pop(key, None)
    taken.drop(f"{ACTOR}kl_loss_coef", "acts beside use_kl_loss only")
    for own in ("reward.custom_reward_function", "custom_reward_function"):  # by its newer name, and its older one
        path = taken.left.get(f"{own}.path")
        if path:
            reward = {"type": "function", "path": f"{path}:{taken.left.pop(f'{own}.name', None) or 'compute_score'}"}
            taken.put(f"{own}.path", "grpo.rewards", [reward], "its arguments are other ones: docs/grpo.md")
            return
    taken.assume("data_source", "grpo.rewards", [{"type": "number"}], _REWARD)
