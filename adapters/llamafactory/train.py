"""Runs LLaMA-Factory's trainer on the config that the plan wrote, and reports its metrics; inside its environment.

Usage: python -m adapters.llamafactory.train [OPTIONS] backend/train.yaml METRICS.jsonl
    --stop STEP             end there, with a checkpoint and the schedule of the whole training
    --tokenizer DIRECTORY   another than the model's, which LLaMA-Factory has no option for
    --need-liger            its kernels were asked for: an error where the model has none

The same config runs under `llamafactory-cli train`; what this adds is one line of metrics a step, unrounded and whole,
attention of packs without a mask, inputs of adapters left in bf16, a loss by tokens, checkpoints of several processes
that are whole, and a word on the kernels in use.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapters.initial_adapter import base_model, check_modules
from adapters.llamafactory import packs, train_fsdp, train_reward, train_tokens
from adapters.native import LIGER
from adapters.schedule import follow

AtBegin = Callable[[Any, Any, Any], None]  # of the Trainer's arguments, the model, and the loader of the training rows


def main(config_file: str, metrics_file: str, stop: int = 0, need_liger: bool = False, tokenizer: str = "") -> None:
    import yaml
    from llamafactory.train.tuner import run_exp

    config = yaml.safe_load(Path(config_file).read_text(encoding="utf-8"))
    _check_attention(config)
    _check_kernels(config, need_liger)
    _check_modules(config)
    if tokenizer:
        _take_tokenizer(tokenizer)
    _save_together()
    _load_on_cpus()
    if config.get("infer_dtype") == "float32":
        _load_in_fp32()
    if config["stage"] == "rm":
        train_reward.install(config)
    if config.get("fsdp_config", {}).get("version") == 2:
        train_fsdp.install()
    at_begin: list[AtBegin] = [lambda args, model, _loader: keep_inputs(args, model)]
    if config.get("neat_packing"):
        if config["flash_attn"] == "auto":
            own = packs.Packs()
            own.install()
            at_begin.append(lambda _args, model, _loader: own.use(model))
        at_begin.append(packs.check)
    if config["stage"] in ("sft", "pt"):
        at_begin.append(train_tokens.Tokens().use)
    run_exp(config, callbacks=[_reporter(Path(metrics_file), stop), _at_begin(at_begin)])


def _check_kernels(config: dict[str, Any], needed: bool) -> None:
    """Take Liger's kernels out of the config where they cannot act: LLaMA-Factory warns, or ends, only later."""
    if not config.get("enable_liger_kernel"):
        return
    from transformers import AutoConfig

    missing = ""
    if importlib.util.find_spec("liger_kernel") is None:
        missing = "this environment has no liger-kernel"
    else:
        trust = bool(config.get("trust_remote_code"))
        path, revision = config["model_name_or_path"], config.get("model_revision", "main")
        family = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust).model_type
        if family not in LIGER:
            missing = f"LLaMA-Factory has none for the family {family}"
    if missing and needed:
        sys.exit(f"training.kernels: liger is not possible: {missing}; use none or auto")
    if missing:
        config["enable_liger_kernel"] = False
    print(f"kernels: {f'none, as {missing}' if missing else 'liger'}", flush=True)


def _check_modules(config: dict[str, Any]) -> None:
    """Exit where an adapter is to be of modules that the model has not."""
    targets, saved = config.get("lora_target", "all"), config.get("additional_target")
    if config["finetuning_type"] != "lora" or (targets == "all" and not saved):
        return
    told = {
        "model": config["model_name_or_path"],
        "revision": config.get("model_revision", "main"),
        "trust_remote_code": bool(config.get("trust_remote_code")),
    }
    names = targets if targets == "all" else targets.split(",")
    check_modules(base_model(told, real=False), names, saved.split(",") if saved else [])


def _take_tokenizer(directory: str) -> None:
    """Have LLaMA-Factory's loader take the tokenizer from a directory; the trainer saves it with each checkpoint."""
    from llamafactory.model import loader
    from transformers import AutoTokenizer

    class Tokenizers:
        """As `loader.load_tokenizer` asks for a tokenizer and a processor, by the model's path.

        It drops a processor that is a tokenizer, as every model of text has one; where the directory has none, it ends.
        """

        @staticmethod
        def from_pretrained(_model: str, **how: Any) -> Any:
            return AutoTokenizer.from_pretrained(directory, **{**how, "revision": None})

    loader.AutoTokenizer = loader.AutoProcessor = Tokenizers


def _load_in_fp32() -> None:
    """Have the model loaded in fp32, whatever its checkpoint is in.

    LLaMA-Factory takes the checkpoint's dtype, and casts to fp32 what is trained: a frozen base in bf16 computes in
    bf16 then, and what is trained behind it does not fit it.
    """
    import torch
    from llamafactory.model import loader

    load = loader.load_config

    def loaded(model_args: Any) -> Any:
        config = load(model_args)
        config.dtype = torch.float32
        return config

    loader.load_config = loaded


def _check_attention(config: Any) -> None:
    # LLaMA-Factory only warns, and trains with another attention than was asked for.
    from transformers.utils import is_flash_attn_2_available

    if config.get("flash_attn") == "fa2" and not is_flash_attn_2_available():
        sys.exit(
            "model.attention: flash_attention_2 needs the package flash-attn, which this environment does not have; "
            "use sdpa, or put it there: recipe setup llamafactory --with flash-attn"
        )


def _save_together() -> None:
    """Have a checkpoint's last file, trainer_state.json, wait for the parts that the other processes write.

    The Trainer does not: killed between the two, a run had a checkpoint that looked whole and was not.
    """
    import torch
    from transformers import Trainer

    save = Trainer._save_rng_state

    def saved(trainer: Any, directory: str) -> None:
        save(trainer, directory)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()

    Trainer._save_rng_state = saved


def _load_on_cpus() -> None:
    """Have an optimizer's state load in each of several CPU processes.

    Accelerate calls their device cpu:0, and the Trainer hands that to torch.load, which knows a `cpu` without number
    only (`_set_device` of accelerate/state.py): no such run could be resumed.
    """
    import torch

    def load(storage: Any, location: str) -> Any:
        return storage if location.startswith("cpu:") else None

    torch.serialization.register_package(9, lambda _storage: None, load)


def keep_inputs(args: Any, model: Any) -> None:
    """Have an adapter's layers take their input in bf16 or fp16, as it comes, where autocast computes them so.

    PEFT would make it fp32, as the adapter's weights are, and autocast the same bf16 of that again: of four times the
    bytes, and once for each of the layers that share it. DeepSpeed has no autocast; there the weights are bf16, too.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if (args.bf16 or args.fp16) and not args.deepspeed:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False


def _at_begin(uses: Sequence[AtBegin]) -> Any:
    from transformers import TrainerCallback

    class Begin(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            for use in uses:
                use(args, model, kwargs["train_dataloader"])

    return Begin()


def _reporter(path: Path, stop: int) -> Any:
    import torch
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]
        """Appends each log of the main process to the metrics file."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step:
                follow(kwargs["lr_scheduler"])
            self.tokens = 0
            model.register_forward_pre_hook(self.count, with_kwargs=True)
            self.time, self.step = time.perf_counter(), state.global_step
            self.write(state, {"event": "begin", "total_steps": state.max_steps})

        def count(self, model: Any, args: Any, given: dict[str, Any]) -> None:
            """Count the tokens that are trained on, filling left out; a tensor, so that no GPU is waited for."""
            ids, mask = given.get("input_ids"), given.get("attention_mask")
            if model.training and torch.is_grad_enabled() and ids is not None:
                self.tokens += (mask != 0).sum() if mask is not None and mask.dim() == 2 else ids.numel()

        def counted(self, device: Any) -> int:
            total = torch.as_tensor(self.tokens, device=device)
            if torch.distributed.is_initialized():
                torch.distributed.all_reduce(total)
            self.tokens = 0
            return int(total)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == stop:
                control.should_save = control.should_training_stop = True

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
        ) -> None:
            logs = dict(logs or {})
            steps = state.global_step - self.step
            if "loss" in logs and steps:
                now = time.perf_counter()
                logs["step_time_s"] = (now - self.time) / steps
                logs["tokens"] = self.counted(args.device) / steps
                self.time, self.step = now, state.global_step
            logs["memory_gb"] = _peak_memory_gb(torch)
            self.write(state, logs)

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.time = time.perf_counter()  # the next step's time does not count the evaluation

        def write(self, state: Any, values: dict[str, Any]) -> None:
            if state.is_world_process_zero:
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps({"step": state.global_step, **values}) + "\n")

    return Reporter()


def _peak_memory_gb(torch: Any) -> float:
    """Peak memory of this process: on the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop", type=int, default=0)
    parser.add_argument("--tokenizer", default="")
    parser.add_argument("--need-liger", action="store_true")
    parser.add_argument("config")
    parser.add_argument("metrics")
    given = parser.parse_args()
    main(given.config, given.metrics, given.stop, given.need_liger, given.tokenizer)
