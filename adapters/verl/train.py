"""Runs verl's SFT trainer on the config that the plan wrote; inside its environment, one process or under torchrun.

Usage: python -m adapters.verl.train [OPTIONS] backend/train.yaml
    --stop STEP                 end there, with a checkpoint and the schedule of the whole training
    --model-revision REVISION   of a model on the hub
    --need-liger                its kernels were asked for: an error where the model has none
    --together FIELD            of the recipe asks for rows one behind the other: an error where the model does not keep
                                them apart; without it, micro batches are then of rows that are filled up

The same config runs under verl's own entry (`torchrun -m verl.trainer.sft_trainer --config-dir backend --config-name
train`). What this adds, each where verl 0.9.1 falls short:
    the noise of a step follows from seed and step (its SFT trainer seeds nothing), so a resumed run repeats it;
    a resume at the end of an epoch trains the next one (its loader gives an empty epoch, exit code 0);
    a checkpoint is removed only when a newer one is whole (it deletes first, and forgets the old ones on a resume);
    the metrics say the learning rate that the step used (it logs the next one), the step's time and the epoch;
    what reads pictures is frozen, as on LLaMA-Factory (it is computed, of none, and would decay);
    the loss is in fp32, and rows one behind the other need no mask, without flash-attn too (faster.py).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from verl.trainer import sft_trainer
from verl.utils import tensordict_utils
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

from adapters import apart
from adapters.schedule import follow
from adapters.verl import faster
from adapters.verl.checkpoints import prune, same_world
from adapters.verl.compose import compose
from adapters.verl.tracking import Tracking


class Trainer(sft_trainer.SFTTrainer):  # type: ignore[misc]
    """verl's SFT trainer with the additions that the module names."""

    def __init__(self, config: Any, stop: int, together: str) -> None:
        super().__init__(config)
        self.stop = stop
        if config.model.use_remove_padding and not faster.attend(self.engine):
            self._pad(together)
        self.step = self.resume_global_step
        if self.step and self.step % self.steps_per_epoch == 0:
            self._build_dataloader()  # the checkpoint's loader stands at the end of its epoch
            self.ckpt_handler.train_dataloader = self.train_dataloader
        if self.step:
            follow(self.engine.lr_scheduler)

    def _pad(self, together: str) -> None:
        """Have micro batches of rows, filled up; exit where the recipe's field `together` is against it."""
        mixes = apart.MIXES.format(family=self.model_config.hf_config.model_type)
        if together:
            sys.exit(f"{together}: {mixes}; take it out")
        rows = math.gcd(self.config.data.micro_batch_size_per_gpu, self.train_batch_size_per_dp)
        self.config.data.micro_batch_size_per_gpu = rows
        self.config.data.use_dynamic_bsz = self.config.model.use_remove_padding = False
        print(f"micro batches: of {rows} rows, as {mixes}", flush=True)

    def fit(self) -> None:
        if self.stop:  # the schedule has been made of the whole number
            self.total_training_steps: int = min(self.stop, self.total_training_steps)
        if self.step < self.total_training_steps:  # else it would train one step more
            super().fit()

    def _build_engine(self) -> None:
        super()._build_engine()
        self.training_client.train_batch = self._reported(self.training_client.train_batch)

    def _reported(self, train_batch: Any) -> Any:
        def step(data: Any) -> Any:
            self.step += 1
            torch.manual_seed((self.config.engine.seed + self.rank) * 1_000_003 + self.step)
            rate = self.engine.optimizer.param_groups[0]["lr"]
            started = time.perf_counter()
            output = train_batch(data=data)
            if output is not None:
                metrics = tensordict_utils.get(output, "metrics")
                metrics["lr"] = rate
                metrics["train/epoch"] = self.step / self.steps_per_epoch
                metrics["train/step_time_s"] = time.perf_counter() - started
            return output

        return step

    def _build_ckpt_handler(self) -> None:
        super()._build_ckpt_handler()
        self.ckpt_handler.max_ckpt_to_keep = None
        save = self.ckpt_handler.save_checkpoint

        def save_checkpoint(step: int) -> None:
            save(step)
            if self.rank == 0:
                prune(Path(self.config.trainer.default_local_dir), self.config.trainer.max_ckpt_to_keep)

        self.ckpt_handler.save_checkpoint = save_checkpoint


def _freeze_pictures() -> None:
    """Have only the decoder and the head trained, of a whole model."""
    build = FSDPEngine._build_module

    def built(engine: Any) -> Any:
        module = build(engine)
        own = {*module.get_decoder().parameters(), *module.get_output_embeddings().parameters()}
        for parameter in module.parameters():
            parameter.requires_grad_(parameter in own)
        return module

    FSDPEngine._build_module = built


def main(file: Path, stop: int = 0, revision: str | None = None, need_liger: bool = False, together: str = "") -> None:
    from verl.utils.device import auto_set_device
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

    config = compose(file, revision)
    faster.check_kernels(config.model, need_liger)
    same_world(config.trainer.resume_from_path, int(os.environ["WORLD_SIZE"]))
    auto_set_device(config)
    initialize_global_process_group()
    sft_trainer.Tracking = Tracking
    faster.install()
    _freeze_pictures()
    Trainer(config, stop, together).fit()
    destroy_global_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop", type=int, default=0)
    parser.add_argument("--model-revision")
    parser.add_argument("--need-liger", action="store_true")
    parser.add_argument("--together", default="")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    main(given.file, given.stop, given.model_revision, given.need_liger, given.together)
