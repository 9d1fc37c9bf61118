"""What the worker is asked to do: the specification file, checked once and then frozen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recipes.errors import UserError, did_you_mean
from recipes.suites import LM_EVAL
from recipes.typed import read_typed
from recipes.types import OwnMeasure


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to score: a Hugging Face directory or hub id, or a PEFT adapter with its base.

    `revision` is that of what comes from the hub: the model, or the adapter's base; None is the hub's newest.
    `tokenizer` is a directory in place of the model's own.
    """

    name: str
    path: str
    output: Path
    base: str | None = None
    revision: str | None = None
    tokenizer: Path | None = None
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """An OpenAI-compatible endpoint that judges free answers; `key_env` names the variable that holds its key."""

    base_url: str
    model: str
    key_env: str | None = None
    timeout_s: float = 60.0
    retries: int = 4
    backoff_s: float = 1.0  # before the first retry; doubled for each
    parallel: int = 4


@dataclass(frozen=True, kw_only=True)
class LmEval:
    """How lm-evaluation-harness asks; None leaves it to the task."""

    num_fewshot: int | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 8
    chat_template: bool = True
    system: str | None = None
    think_end_token: str | None = None


LONGEST = 32_768


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One evaluation: models × suites, with everything that determines the answers."""

    models: tuple[Model, ...]
    suites: tuple[str, ...]
    data: Mapping[str, str] = field(default_factory=dict)
    rows: str | None = None
    test_prompts: str | None = None
    max_length: int = LONGEST  # of a row or a prompt, in tokens; at most the model's positions
    train_on: str = "all_turns"
    chat_template: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    thinking: str = "auto"  # on, off: of what is generated, in place of the template's own way
    trust_remote_code: bool = False
    max_samples: int | None = None
    max_generation_samples: int | None = None
    max_new_tokens: int = 128
    max_thought_tokens: int = 0  # of a thought, apart from its answer; 0: the answer's limit holds for both
    batch_tokens: int = 4096
    dtype: str = "auto"
    device: str = "auto"
    engine: str = "transformers"
    scorer: str = "rougeL"  # of free answers; or embedding:DIRECTORY, bleurt:DIRECTORY
    judge: Judge | None = None  # of the suite reference
    measures: tuple[OwnMeasure, ...] = ()  # of the same, the user's own
    subsets: tuple[str, ...] = ()  # of LongBench; `e`: all of LongBench-E; empty: what there is
    lm_eval: LmEval = field(default_factory=LmEval)
    allow_code: bool = False  # of a task of lm-eval's that runs what the model writes
    reward: bool = False  # whether the model is one that scores; the worker sees it by its files
    seed: int = 42
    progress: bool = False

    @property
    def asking(self) -> Spec:
        """The specification of what is generated: with the template's variable for thinking."""
        if self.thinking == "auto":
            return self
        variables = {**self.chat_template_kwargs, "enable_thinking": self.thinking == "on"}
        return replace(self, chat_template_kwargs=variables)


@dataclass(frozen=True, kw_only=True)
class Chat:
    """What eval/engines/chat.py is asked to do.

    temperature: 0 is greedy. share: of what vLLM takes of a GPU, where other models lie beside this one.
    """

    spec: Spec
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Merge:
    """What eval/models/merge.py is asked to do.

    revision: of a base on the hub; None is the newest. dtype: auto is the base's own. prompts: message lists.
    check: whether the merged model is compared with base and adapter. test_prompt: asked of both; empty: none.
    """

    base: str
    revision: str | None
    adapter: str
    target: str
    dtype: str
    trust_remote_code: bool
    prompts: tuple[tuple[Mapping[str, Any], ...], ...]
    check: bool = True
    test_prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How a merged model differs from base and adapter: next-token log-probabilities, in nats."""

    prompts: int
    positions: int
    largest_difference_nat: float
    limit_nat: float
    same_next_token: float
    effect_of_adapter_nat: float


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What was done and checked of a merged model: merge.json.

    compared: None where no check was asked for. replies: to a test prompt, of base and adapter and of the merged model.
    adapter_hash: of its content; empty of a model that was merged before there were any.
    """

    dtype: str
    parameters: int
    base: str
    adapter: str
    adapter_hash: str = ""
    compared: Compared | None
    replies: tuple[str, str] | None


@dataclass(frozen=True, kw_only=True)
class CalibrationRows:
    """The training rows that a quantization looks at.

    directory: of the split as it was tokenized. prefix: of its columns. limit, seed: how many are drawn, and by what.
    prompts: where rows stay text (GRPO), the file of JSON lines with their prompts; `variables` are for its template.
    """

    directory: str
    prefix: str
    limit: int
    seed: int
    prompts: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """What eval/models/export.py is asked to do: a whole model's directory, in a scheme of eval/models/schemes.py."""

    model: str
    target: str
    scheme: str
    trust_remote_code: bool
    rows: CalibrationRows | None


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """The rows that were looked at; sha256: of their token ids, as 32-bit integers, a -1 behind each row."""

    rows: int
    of: int
    tokens: int
    seed: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What was done: which layers are quantized, by groups of how many inputs, and which linear layers are not."""

    scheme: str
    layers: int
    kept: tuple[str, ...]
    group_size: int | None
    calibrated: Calibrated | None
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Push:
    """What eval/models/push.py is asked to do: files by their names in the repository, put there in one commit.

    revision: a branch, made where it is missing; None is the main one.
    """

    repository: str
    private: bool
    revision: str | None
    files: Mapping[str, str]
    message: str
    target: str  # where the address of what was pushed is written


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What eval/models/tokens.py is asked to do: `variables` are given to the chat template.

    prompts: canonical messages; the first has the conversation's `tools`, if any.
    """

    model: str
    prompts: tuple[tuple[Mapping[str, Any], ...], ...]
    variables: Mapping[str, Any]
    trust_remote_code: bool
    target: str


def read_spec(path: Path, suites: Collection[str], engines: Collection[str]) -> Spec:
    """The specification in a JSON file; `suites` are those that may be asked, LM_EVAL for all of lm-eval's.

    Raises:
        UserError: unknown fields, suites or engines, or files that are not there.
    """
    try:
        spec = read_typed(Spec, path)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    unknown = [n for n in spec.suites if n not in suites and not (LM_EVAL in suites and n.startswith(LM_EVAL))]
    problems = [f"unknown suite {name!r}{did_you_mean(name, suites)}" for name in unknown]
    if spec.engine not in engines:
        problems.append(f"unknown engine {spec.engine!r}; allowed: {', '.join(engines)}")
    files = {"rows": spec.rows, "test_prompts": spec.test_prompts, "chat_template": spec.chat_template}
    files |= {f"data of {name}": value for name, value in spec.data.items()}
    gone = {name: value for name, value in files.items() if value and not Path(value).exists()}
    problems += [f"{name}: {value}: no such file" for name, value in gone.items()]
    if problems:
        raise UserError(*problems)
    return spec
