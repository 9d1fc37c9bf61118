"""verl's GRPO trainer with what verl 0.9.1 lacks; runs in a process of Ray's.

a checkpoint is removed only when a newer one is whole (verl deletes first, and forgets the old ones on a resume);
the metrics say the learning rate that the step used (it logs the next one), each reward's part, and the epoch;
rewards that raise stop the run (it drops those replies and goes on);
rollouts are kept of the first step, of those that validate (or save), and of the last (it keeps all).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ray
import transfer_queue
from verl.single_controller.base.decorator import Dispatch, register
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.workers.engine_workers import ActorRolloutRefWorker

from adapters.verl.checkpoints import prune
from adapters.verl.grpo import PART
from adapters.verl.ray_nodes import wait_for_all
from adapters.verl.tracking import Tracking


class RewardsFailed(Exception):
    """Rewards raised; the message counts them and shows the first."""


class Actor(ActorRolloutRefWorker):  # type: ignore[misc]
    """One device's part of the model; reports the learning rate that a step used.

    It may not be called Worker: verl looks for its base by that name.
    """

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[untyped-decorator]
    def init_model(self) -> None:
        super().init_model()
        engine = self.actor.engine
        advance = engine.lr_scheduler_step

        def lr_scheduler_step() -> float:
            used: float = engine.optimizer.param_groups[0]["lr"]
            advance()
            return used

        engine.lr_scheduler_step = lr_scheduler_step


class Trainer(PPOTrainerSync):  # type: ignore[misc]
    """verl's synchronous trainer with the additions that the module names."""

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role in self.role_worker_mapping:
            self.role_worker_mapping[role] = ray.remote(Actor)

    def on_sample_end(self) -> None:
        super().on_sample_end()
        _stop_at_failures()

    def on_validate_end(self) -> None:
        super().on_validate_end()
        _stop_at_failures()

    def _save_checkpoint(self) -> None:
        keep = self.config.trainer.max_actor_ckpt_to_keep
        self.config.trainer.max_actor_ckpt_to_keep = None
        super()._save_checkpoint()
        self.config.trainer.max_actor_ckpt_to_keep = keep
        prune(Path(self.config.trainer.default_local_dir), keep)

    def _log_rollout_data(self, *args: Any, **kwargs: Any) -> None:
        trainer = self.config.trainer
        every = trainer.test_freq if trainer.test_freq > 0 else trainer.save_freq
        if self.global_steps in (1, self.total_training_steps) or self.global_steps % every == 0:
            super()._log_rollout_data(*args, **kwargs)

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        metrics["train/epoch"] = self.global_steps / self.steps_per_epoch
        got = transfer_queue.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"]
        )
        infos = [fields["reward_extra_info"] for fields in got["extra_fields"]]
        for name in infos[0]:
            if name.startswith(PART):
                metrics[name] = sum(info[name] for info in infos) / len(infos)


def _stop_at_failures() -> None:
    file = Path(os.environ["RECIPE_REWARD_FAILURES"])
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        first = json.loads(lines[0])
        raise RewardsFailed(f"{len(lines)} rewards failed; the first: {first['error']} (reply: {first['reply']!r})")


class Runner(TaskRunnerV1.__ray_metadata__.modified_class):  # type: ignore[misc]
    """verl's own main process, with our trainer in place of its synchronous one."""

    def run(self, config: Any) -> None:
        trainer_base.TRAINER_REGISTRY["sync"] = Trainer
        trainer_base.Tracking = Tracking
        if config.trainer.nnodes > 1:
            wait_for_all(config.trainer.nnodes)
        super().run(config)
