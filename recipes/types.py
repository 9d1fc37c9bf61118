"""The recipe as frozen types, one field for each leaf of the schema (a test holds the two equal)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recipes.launch_types import Launch

Value = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Model:
    path: str
    revision: str | None
    trust_remote_code: bool
    adapter_path: str | None  # absolute
    tokenizer: str | None
    add_tokens: tuple[str, ...]
    chat_template: str | None
    chat_template_kwargs: Mapping[str, Value]
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    type: Literal["lora", "full", "freeze"]
    rank: int
    alpha: int  # filled in: twice the rank
    dropout: float
    target_modules: Literal["all-linear"] | tuple[str, ...]
    rslora: bool
    dora: bool
    lora_plus_ratio: float | None
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"]
    modules_to_save: tuple[str, ...]
    layers: int
    modules: Literal["all"] | tuple[str, ...]
    quantization: Literal["4bit", "8bit"] | None


@dataclass(frozen=True, kw_only=True)
class Source:
    path: str | tuple[str, ...]  # local paths are absolute
    format: str
    split: str | None  # None, as no recipe has it: every file there is
    subset: str | None
    revision: str | None
    columns: Mapping[str, str]
    system: str | None
    max_samples: int | float | None  # a fraction below 1
    shuffle: bool
    weight: float | None
    min_margin: float | None
    encoding: str
    delimiter: str | None  # None: told from the header
    text: Literal["paragraph", "line", "file"]
    subsets: tuple[str, ...]  # of LongBench; empty: all that are there
    answers: Literal["first", "all"]

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def name(self) -> str:
        """What the source is called where its rows are counted."""
        return ", ".join(self.paths)


@dataclass(frozen=True, kw_only=True)
class Validation:
    fraction: float
    sources: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class Data:
    train: tuple[Source, ...]
    validation: Validation
    max_length: int
    overlong: Literal["drop", "truncate", "middle", "error"]
    train_on: Literal["all_turns", "last_turn"]
    packing: bool
    max_samples: int | None
    test_prompts: int
    on_bad_row: Literal["error", "drop"]
    on_note: Literal["warn", "error"]
    allow_loss: bool
    irregular: Literal["error", "merge", "drop"]
    contamination: Literal["warn", "drop", "off"]
    dedup: Literal["exact", "near"] | None
    dedup_threshold: float
    thinking: Literal["keep", "drop"]
    seed: int


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    eps: float


@dataclass(frozen=True, kw_only=True)
class Training:
    epochs: float
    max_steps: int | None
    global_batch_size: int
    micro_batch_size: int  # 0 where it is auto, which runner/training/micro_batch.py makes a number of
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "lion", "muon"]
    learning_rate: float  # filled in by method and tuning
    scheduler: Literal["cosine", "linear", "constant"]
    warmup_ratio: float
    warmup_steps: int | None
    weight_decay: float
    betas: tuple[float, float]
    optimizer_options: OptimizerOptions
    max_grad_norm: float
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    gradient_checkpointing: bool
    kernels: Literal["auto", "liger", "none"]
    compile: bool
    dataloader_workers: int
    group_by_length: bool
    neftune_alpha: float | None
    log_every: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Preference:
    beta: float  # filled in by method
    gamma: float
    loss: Literal["sigmoid", "hinge", "ipo"]
    label_smoothing: float
    sft_weight: float
    chosen_weight: float
    rejected_weight: float


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    n: int
    temperature: float
    top_p: float
    max_prompt_length: int
    max_reply_length: int
    engine: Literal["vllm", "sglang"]
    tensor_parallel: int
    gpu_memory_utilization: float


@dataclass(frozen=True, kw_only=True)
class Reward:
    type: Literal["exact", "number", "regex", "length", "rouge", "function"]
    weight: float
    pattern: str | None
    target: int | None
    path: str | None


@dataclass(frozen=True, kw_only=True)
class Grpo:
    rollouts: Rollouts
    mini_batch_size: int | None
    kl_coef: float
    kl_in: Literal["loss", "reward"]
    clip_ratio: float
    clip_ratio_high: float | None
    advantage: Literal["grpo", "dr_grpo", "rloo", "reinforce++"]
    rewards: tuple[Reward, ...]


@dataclass(frozen=True, kw_only=True)
class Distributed:
    strategy: Literal["auto", "ddp", "deepspeed-zero2", "deepspeed-zero3", "fsdp", "fsdp2", "megatron"]
    offload_parameters: bool
    offload_optimizer: bool
    tensor_parallel: int
    pipeline_parallel: int
    sequence_parallel: int
    expert_parallel: int
    remove_padding: bool
    max_tokens_per_device: int | None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    every: int | None
    keep: int | None


@dataclass(frozen=True, kw_only=True)
class Judge:
    base_url: str | None
    model: str | None
    key_env: str | None


@dataclass(frozen=True, kw_only=True)
class LmEval:
    num_fewshot: int | None
    generation: Mapping[str, str | int | float | bool | tuple[str, ...]]
    batch: int
    chat_template: bool
    system: str | None
    think_end_token: str | None


@dataclass(frozen=True, kw_only=True)
class OwnMeasure:
    name: str
    type: Literal["function", "regex", "exact", "number", "length"]
    path: str | None
    pattern: str | None
    target: int | None
    better: Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Eval:
    every: int | None
    loss_every: int | None
    suites: tuple[str, ...]
    mode: Literal["after", "pause", "concurrent"]
    devices: tuple[str, ...]
    combined_score: str | None
    patience: int | None
    best_model: bool
    base: bool
    max_samples: int | None
    thinking: Literal["auto", "on", "off"]
    max_new_tokens: int
    max_thought_tokens: int
    data: Mapping[str, str]
    measures: tuple[OwnMeasure, ...]
    lm_eval: LmEval
    allow_code: bool
    longbench_subsets: tuple[str, ...]
    engine: Literal["transformers", "vllm"]
    scorer: str
    judge: Judge

    @property
    def of_checkpoints(self) -> bool:
        """Whether checkpoints are scored, and not only the finished run."""
        return bool(self.every and self.suites)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe with every default filled in; `recipes.load` makes it."""

    name: str
    description: str
    backend: str
    method: str
    model: Model
    tuning: Tuning
    data: Data
    training: Training
    preference: Preference
    grpo: Grpo
    distributed: Distributed
    checkpoint: Checkpoint
    eval: Eval
    logging: tuple[str, ...]
    launch: Launch
    backend_options: Mapping[str, Any]

    @property
    def together(self) -> str:
        """The field that asks for rows one behind the other in a sequence; "" where none does."""
        asking = {
            "data.packing": self.data.packing,
            "distributed.max_tokens_per_device": self.distributed.max_tokens_per_device,
            "distributed.remove_padding": self.distributed.remove_padding,
        }
        return next((field for field, asked in asking.items() if asked), "")
