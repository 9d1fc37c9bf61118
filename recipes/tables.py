"""What the made recipes of the catalogue are products of: models, kinds of training, machines, and public data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ROWS = 20_000  # of a data set that has more: a first training that ends in hours, and a time that can be estimated

MODELS: Mapping[str, str] = {
    "smollm2_135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2_360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2_1.7b": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "qwen3_0.6b": "Qwen/Qwen3-0.6B",
    "qwen3_1.7b": "Qwen/Qwen3-1.7B",
    "qwen3_4b": "Qwen/Qwen3-4B",
    "qwen3_8b": "Qwen/Qwen3-8B",
    "qwen3_14b": "Qwen/Qwen3-14B",
    "qwen3_32b": "Qwen/Qwen3-32B",
    "llama3.2_1b": "meta-llama/Llama-3.2-1B-Instruct",
    "llama3.2_3b": "meta-llama/Llama-3.2-3B-Instruct",
    "llama3.1_8b": "meta-llama/Llama-3.1-8B-Instruct",
    "llama3.1_70b": "meta-llama/Llama-3.1-70B-Instruct",
    "gemma3_270m": "google/gemma-3-270m-it",
    "gemma3_1b": "google/gemma-3-1b-it",
    "mistral_7b": "mistralai/Mistral-7B-Instruct-v0.3",
    "mistral_nemo_12b": "mistralai/Mistral-Nemo-Instruct-2407",
    "phi4_mini_4b": "microsoft/Phi-4-mini-instruct",
    "phi4_14b": "microsoft/phi-4",
    "r1_qwen_1.5b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "r1_qwen_7b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "r1_qwen_14b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
    "r1_qwen_32b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
    "r1_llama_8b": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    "r1_llama_70b": "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
}
ASKING = ("meta-llama", "google", "mistralai")  # whose pages on the Hub ask to accept a licence first


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`data`: the key of DATA, or that of models that think."""

    method: str
    tuning: str  # lora, qlora or full
    backend: str
    data: str
    thinking: str | None = None  # None: such models are not trained so


KINDS = {
    f"{method}_{tuning}": Kind(method=method, tuning=tuning, backend=backend, data=data, thinking=thinking)
    for method, tunings, backend, data, thinking in (
        ("sft", ("lora", "qlora", "full"), "llamafactory", "chats", "thoughts"),
        ("dpo", ("lora", "qlora"), "llamafactory", "pairs", None),
        ("orpo", ("lora", "qlora"), "llamafactory", "pairs", None),
        ("simpo", ("lora", "qlora"), "llamafactory", "pairs", None),
        ("kto", ("lora", "qlora"), "llamafactory", "thumbs", None),
        ("reward", ("lora",), "llamafactory", "pairs", None),
        ("grpo", ("lora", "full"), "verl", "sums", "sums"),
    )
    for tuning in tunings
}
TUNING_WORDS = {"lora": "LoRA", "qlora": "4-bit QLoRA", "full": "full fine-tuning"}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`memory`: GB of each GPU; `gpus`: of each node; `card`: the one of the estimated time; `batch`: rows a step."""

    memory: int
    gpus: int = 1
    nodes: int = 1
    card: str
    batch: int

    @property
    def all(self) -> int:
        """The GPUs of all nodes."""
        return self.gpus * self.nodes

    @property
    def words(self) -> str:
        if self.nodes > 1:
            return f"{self.nodes} nodes of {self.gpus} GPUs of {self.memory} GB"
        return f"{self.gpus} GPUs of {self.memory} GB" if self.gpus > 1 else f"one GPU of {self.memory} GB"


MACHINES = {
    "24gb": Machine(memory=24, card="rtx4090", batch=32),
    "80gb": Machine(memory=80, card="h100", batch=32),
    "8x80gb": Machine(memory=80, gpus=8, card="h100", batch=64),
    "2x8x80gb": Machine(memory=80, gpus=8, nodes=2, card="h100", batch=128),
    "4x8x80gb": Machine(memory=80, gpus=8, nodes=4, card="h100", batch=128),
}

DATA = {
    "chats": f"""\
  train:
    - path: HuggingFaceH4/ultrachat_200k
      format: messages
      split: train_sft
      max_samples: {ROWS}  # of 207,865; take this line out to train on all
  validation:
    sources:
      - path: HuggingFaceH4/ultrachat_200k
        format: messages
        split: test_sft
        max_samples: 500
  max_length: 2048
""",
    "thoughts": f"""\
  train:
    - path: open-r1/Mixture-of-Thoughts
      format: messages
      subset: math  # or code, science, all
      max_samples: {ROWS}  # take this line out to train on all
  validation:
    fraction: 0.02
  max_length: 8192  # longer thoughts are left out, and counted
""",
    "pairs": f"""\
  train:
    - path: HuggingFaceH4/ultrafeedback_binarized
      format: preference
      split: train_prefs
      max_samples: {ROWS}  # of 61,135; take this line out to train on all
  validation:
    sources:
      - path: HuggingFaceH4/ultrafeedback_binarized
        format: preference
        split: test_prefs
        max_samples: 500
  max_length: 2048
""",
    "thumbs": """\
  train:
    - path: trl-lib/kto-mix-14k
      format: feedback
      max_samples: 13500  # all there are
  validation:
    sources:
      - path: trl-lib/kto-mix-14k
        format: feedback
        split: test
        max_samples: 500
  max_length: 2048
""",
    # What is asked stands in the prompt: not every model's template has a place for a system message.
    "sums": """\
  train:
    - path: openai/gsm8k
      subset: main
      columns:
        prompt: "{question}\\n\\nReason step by step, then give the final number on a line of its own after ####."
  validation:
    sources:
      - path: openai/gsm8k
        subset: main
        split: test
        columns:
          prompt: "{question}\\n\\nReason step by step, then give the final number on a line of its own after ####."
        max_samples: 512
""",
}
