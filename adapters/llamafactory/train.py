"""Runs LLaMA-Factory's trainer on the config that the plan wrote, and reports its metrics; inside its environment.

Usage: python -m adapters.llamafactory.train backend/train.yaml METRICS.jsonl [STOP [TOKENIZER]]

The same config runs under `llamafactory-cli train`; what this adds is one line of metrics a step, unrounded and whole,
an end at step STOP (0: none), with a checkpoint and the schedule of the whole training, and the tokenizer of another
directory than the model's, which LLaMA-Factory has no option for.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(config_file: str, metrics_file: str, stop: str = "0", tokenizer: str = "") -> None:
    import yaml
    from llamafactory.train.tuner import run_exp

    config = yaml.safe_load(Path(config_file).read_text(encoding="utf-8"))
    _check_attention(config)
    if tokenizer:
        _take_tokenizer(tokenizer)
    run_exp(config, callbacks=[_reporter(Path(metrics_file), int(stop))])


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


def _check_attention(config: Any) -> None:
    # LLaMA-Factory only warns, and trains with another attention than was asked for.
    from transformers.utils import is_flash_attn_2_available

    if config.get("flash_attn") == "fa2" and not is_flash_attn_2_available():
        sys.exit(
            "model.attention: flash_attention_2 needs the package flash-attn, which this environment does not have; "
            "use sdpa, or install it beside llamafactory and use --env current"
        )


def _reporter(path: Path, stop: int) -> Any:
    import torch
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]
        """Appends each log of the main process to the metrics file."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.time, self.step = time.perf_counter(), state.global_step
            self.write(state, {"event": "begin", "total_steps": state.max_steps})

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
    main(*sys.argv[1:5])
