"""What a backend is to the runner: a few functions, and the plan they make of a recipe.

The runner prepares the rows once, in the backend's own environment and for every backend alike:

    data/train.jsonl, data/validation.jsonl    the kept rows, one JSON object a line, for people and evaluation
    data/tokenized/                            the same rows as token ids: a `datasets.DatasetDict` on disk with the
                                               splits train and (where there is one) validation

so that rows, tokens and loss mask are equal on every backend. Columns of the tokenized rows:

    sft      input_ids, attention_mask, labels                    labels are -100 where there is no loss
    dpo/orpo chosen_input_ids, chosen_attention_mask, chosen_labels, and the same three for rejected
    kto      input_ids, attention_mask, labels, kl_input_ids, kl_attention_mask, kl_labels, kto_tags
    grpo     prompt (messages), answer (text): not tokenized, in data/*.jsonl only
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from adapters.ledger import Entry
from recipes import Problem, Recipe
from recipes.load import LoadedRecipe

Precision = Literal["bf16", "fp16", "fp32"]
Loss = Literal["plain", "fused", "pairs", "compared", "rows", "tokens", "entropy", "scores"]


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The machines of a run. `gpus` is per node; 0 means CPU processes."""

    gpus: int = 0
    processes: int = 1  # per node: the GPUs, or N_GPUS CPU processes where there is no GPU
    nodes: int = 1
    node_rank: int = 0
    master_addr: str = "127.0.0.1"
    master_port: int = 29500
    devices: tuple[str, ...] = ()  # ids for CUDA_VISIBLE_DEVICES, one for each GPU of this node

    @property
    def world_size(self) -> int:
        return self.processes * self.nodes

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Counts of the prepared rows; None before they are prepared."""

    train_rows: int | None = None
    validation_rows: int | None = None
    longest: int | None = None  # tokens of the longest row, or of a pack


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where things lie; absolute. `model` is the directory or hub id the backend loads (bundled ones resolved)."""

    run: Path
    python: Path
    model: str
    code: Path = Path()  # the directory that holds our packages, on the children's PYTHONPATH

    @property
    def tokenized(self) -> Path:
        return self.run / "data" / "tokenized"

    @property
    def tokenizer(self) -> Path:
        """Where the preparation leaves a tokenizer that is not the model's own, or has more tokens."""
        return self.run / "data" / "tokenizer"

    @property
    def accounting(self) -> Path:
        return self.run / "data" / "accounting.json"

    @property
    def checkpoints(self) -> Path:
        return self.run / "checkpoints"

    @property
    def result(self) -> Path:
        return self.run / "model"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Exactly what a run does; making it reads no file, starts nothing and imports no framework.

    argv: the training command.
    env: variables set on top of the caller's.
    unset: variables taken out of the caller's environment.
    files: text by path relative to the run directory, written before the start.
    before: commands to run once before the training, in order; on node 0, before the others start.
    export: the command that makes `model/` of the newest checkpoint when training has ended; on rank 0.
    metrics: the backend's own metrics file, relative to the run directory; read live by `read_metrics`. A step's line
        is written before its checkpoint is whole: after a kill between the two, the step would have none.
    """

    backend: str
    argv: tuple[str, ...]
    metrics: str
    env: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    before: tuple[tuple[str, ...], ...] = ()
    export: tuple[str, ...] = ()
    ledger: tuple[Entry, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint (a kill while it was written leaves one that is not whole and not listed)."""

    step: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a backend keeps a model while it trains it; what the estimate of memory asks of it.

    trained, frozen: the precision of trainable weights, and of a frozen base that is not quantized.
    as_stored: whether such a base stays in fp32 where its checkpoint is.
    autocast: whether copies are made of fp32 weights to compute with.
    master: whether the optimizer has fp32 copies of trainable weights.
    fused: whether it steps by kernels that need nothing beside its states.
    weights_over, states_over: processes that share the weights, and the gradients and optimizer states.
    sharded: whether FSDP gathers the weights of a layer when they are needed.
    summed: gradients, in elements, that are summed at once in buffers of their own; None: all.
    live: weights, in elements, that are whole at a time for another reason.
    offload: what lies in the host's memory: weights (with all that belongs to them), states (with gradients), or
        between: states that are only brought for the optimizer step.
    reference: the precision of a second model beside the trained one.
    loss: plain: the logits whole, in fp32 as transformers has it; fused: in chunks; pairs: the
        log-probabilities that preference methods take of them; compared: and a reference model's beside them;
        scores: of a reward model, without logits;
        rows, tokens: on verl, of padded rows, and without padding; entropy: of rows by verl's own functions, and the
        entropy beside them, as its GRPO asks for.
    liger: the families, by `model_type`, that Liger's kernels compute: norms, MLPs, and in place of the plain loss
        the fused one.
    unpadded: whether rows lie one behind the other, without padding and without a mask that tells them apart.
    counted: the native keys that were looked at for this.
    """

    trained: Precision
    frozen: Precision
    autocast: bool
    master: bool = False
    fused: bool = False
    weights_over: int = 1
    states_over: int = 1
    sharded: bool = False
    summed: int | None = 0
    live: int = 0
    offload: frozenset[str] = frozenset()
    as_stored: bool = False
    reference: Precision | None = None
    loss: Loss = "plain"
    liger: tuple[str, ...] = ()
    unpadded: bool = False
    counted: tuple[str, ...] = ()


Metrics = dict[str, float]


class Backend(Protocol):
    """The functions that a module under adapters/ has; BACKENDS lists the modules."""

    NAME: str
    DISTRIBUTION: str  # its distribution's name, whose pinned version the lock has
    METHODS: tuple[str, ...]  # of recipes.methods
    TUNINGS: tuple[str, ...]  # of the recipe's tuning.type
    QUANTIZATIONS: tuple[str, ...]  # of the base under LoRA
    STRATEGIES: tuple[str, ...]
    CHECKPOINTS: tuple[str, ...]  # patterns of the directories that it writes checkpoints into
    LOCKS: Mapping[str, Path]  # device ("cpu", "cuda") to its requirements lock
    NO_DEPS: Mapping[str, tuple[str, ...]]  # device to requirements installed without their dependencies

    def problems(self, loaded: LoadedRecipe, topology: Topology) -> list[Problem]:
        """Everything of the recipe that this backend refuses, each at its place in the file."""

    def plan(
        self,
        recipe: Recipe,
        topology: Topology,
        data: PreparedData,
        paths: Paths,
        *,
        attempt: int = 1,
        resume: Checkpoint | None = None,
        stop: int | None = None,
    ) -> Plan:
        """The plan of a recipe that `problems` has passed; pure. `stop`: the step to end at, with a checkpoint."""

    def export_command(
        self, recipe: Recipe, topology: Topology, paths: Paths, target: Path, step: int | None
    ) -> tuple[str, ...]:
        """The command that makes a model directory of the checkpoint of a step; None: of the finished training."""

    def ledger(self, recipe: Recipe, topology: Topology) -> list[Entry]:
        """What becomes of every leaf of the schema; `plan` puts the same entries into the plan."""

    def keeping(self, recipe: Recipe, topology: Topology) -> Keeping | str:
        """How the model is kept while it trains, or one line that says why nothing is known of it."""

    def total_steps(self, line: Mapping[str, Any]) -> int | None:
        """The number of steps of the whole training, where a line of the metrics file tells it."""

    def read_metrics(self, line: Mapping[str, Any]) -> Metrics | None:
        """One line of the backend's metrics file under unified names, or None where it has none.

        Always `step`; then of: loss, eval_loss, learning_rate, grad_norm, epoch, tokens (in this step),
        step_time_s, memory_gb (the runner adds tokens_per_s, supervised_tokens_per_s and mfu), and the method's own:
        rewards/chosen, rewards/rejected, rewards/accuracies, rewards/margins, logps/chosen, logps/rejected, sft_loss,
        odds_ratio_loss, kl, reward, reply_length, entropy, clip_fraction.
        """

    def checkpoints(self, directory: Path) -> list[Checkpoint]:
        """The whole checkpoints under `directory`, newest first."""

    def fixed_world(self, recipe: Recipe) -> bool:
        """Whether a checkpoint loads only on as many processes as wrote it."""

    def forget_later(self, directory: Path, step: int) -> None:
        """Make the checkpoint of `step` the newest that the backend's own notes name: later ones are gone."""
