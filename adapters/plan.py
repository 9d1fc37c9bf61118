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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from recipes import Problem, Recipe, schema
from recipes.load import LoadedRecipe


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
    def accounting(self) -> Path:
        return self.run / "data" / "accounting.json"

    @property
    def backend(self) -> Path:
        return self.run / "backend"

    @property
    def checkpoints(self) -> Path:
        return self.run / "checkpoints"

    @property
    def result(self) -> Path:
        return self.run / "model"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger: what becomes of a recipe field on this backend.

    field: dotted name of the recipe field; "" for a key that the adapter sets of itself.
    status: mapped (to `native` with `value`), runner (the runner does it), refused (`note` says why).
    """

    field: str
    status: Literal["mapped", "runner", "refused"]
    native: str = ""
    value: Any = None
    note: str = ""


def mapped(field: str, native: str, value: Any, note: str = "") -> Entry:
    return Entry(field=field, status="mapped", native=native, value=value, note=note)


def runner(field: str, note: str) -> Entry:
    return Entry(field=field, status="runner", note=note)


def refused(field: str, note: str) -> Entry:
    return Entry(field=field, status="refused", note=note)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Exactly what a run does; making it reads no file, starts nothing and imports no framework.

    argv: the training command.
    env: variables set on top of the caller's.
    unset: variables taken out of the caller's environment.
    files: text by path relative to the run directory, written before the start.
    before: commands to run once before the training, in order; on node 0, before the others start.
    export: the command that makes `model/` of the newest checkpoint when training has ended; on rank 0.
    metrics: the backend's own metrics file, relative to the run directory; read live by `read_metrics`.
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


Metrics = dict[str, float]


def kept_checkpoints(recipe: Recipe, native: str) -> Entry:
    """`checkpoint.keep`; the backend keeps all that are to be scored, and the runner removes them after that."""
    if recipe.eval.of_checkpoints:
        return mapped("checkpoint.keep", native, None, "all, until they are scored; then the runner removes the old")
    return mapped("checkpoint.keep", native, recipe.checkpoint.keep)


# Threads that spin while they wait stall each other where cores are shared: 43 s a step became 9 s on two busy cores.
CPU_ENV = {"OMP_WAIT_POLICY": "PASSIVE"}


class Backend(Protocol):
    """The functions that a module under adapters/ has; BACKENDS lists the modules."""

    NAME: str
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

    def export(self, recipe: Recipe, topology: Topology, paths: Paths, target: Path, step: int) -> tuple[str, ...]:
        """The command that makes a model directory of one checkpoint, as `Plan.export` does of the newest."""

    def ledger(self, recipe: Recipe, topology: Topology) -> list[Entry]:
        """What becomes of every leaf of the schema; `plan` puts the same entries into the plan."""

    def read_metrics(self, line: Mapping[str, Any]) -> Metrics | None:
        """One line of the backend's metrics file under unified names, or None where it has none.

        Always `step`; then of: loss, eval_loss, learning_rate, grad_norm, epoch, tokens (in this step),
        step_time_s, memory_gb, and the method's own: rewards/chosen, rewards/rejected, rewards/accuracies,
        rewards/margins, logps/chosen, logps/rejected, sft_loss, odds_ratio_loss, kl, reward, reply_length, entropy,
        clip_fraction.
        """

    def checkpoints(self, directory: Path) -> list[Checkpoint]:
        """The whole checkpoints under `directory`, newest first."""


def batch_problem(recipe: Recipe, topology: Topology) -> str | None:
    """Why the global batch size cannot be made of micro batches here, with the nearest that can; else None."""
    batch, unit = recipe.training.global_batch_size, recipe.training.micro_batch_size * topology.world_size
    if batch % unit == 0:
        return None
    near = [n for n in (batch // unit * unit, (batch // unit + 1) * unit) if n]
    return (
        f"{batch} does not divide by micro_batch_size {recipe.training.micro_batch_size} x {topology.world_size} "
        f"process{'es' if topology.world_size > 1 else ''}; nearest: {' or '.join(map(str, near))}"
    )


def gradient_accumulation(recipe: Recipe, topology: Topology) -> int:
    """Micro batches per optimizer step on one device."""
    return recipe.training.global_batch_size // (recipe.training.micro_batch_size * topology.world_size)


def precision(recipe: Recipe, topology: Topology) -> Literal["bf16", "fp16", "fp32"]:
    """The compute precision: what the recipe says, or for `auto` bf16 on GPUs and fp32 on a CPU."""
    asked = recipe.training.precision
    return ("bf16" if topology.gpus else "fp32") if asked == "auto" else asked


def visible_devices(topology: Topology) -> dict[str, str]:
    """The variable that shows a run its GPUs and no others."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(topology.devices)} if topology.devices else {}


def to_yaml(config: Mapping[str, Any]) -> str:
    """A config file's text."""
    import yaml

    # safe_dump quotes what YAML 1.1 would misread ('no'), and writes 5e-05 as 5.0e-05, which PyYAML reads as a number.
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=1000)


def launcher(python: str, topology: Topology) -> tuple[str, ...]:
    """The interpreter, under torchrun where the run has more than one process."""
    if topology.world_size == 1:
        return (python,)
    # One node takes any free port: two runs on a machine would fight over a fixed one.
    meeting = (
        ("--standalone",)
        if topology.nodes == 1
        else (
            f"--nnodes={topology.nodes}",
            f"--node_rank={topology.node_rank}",
            f"--master_addr={topology.master_addr}",
            f"--master_port={topology.master_port}",
        )
    )
    return (python, "-m", "torch.distributed.run", *meeting, f"--nproc_per_node={topology.processes}")


def value_at(recipe: Recipe, dotted: str) -> Any:
    """The value of a leaf that is not inside a list (`training.epochs`)."""
    node: Any = recipe
    for name in dotted.split("."):
        node = getattr(node, name)
    return node


def refusals(entries: Iterable[Entry], loaded: LoadedRecipe) -> list[Problem]:
    """A problem for each refused field that the recipe gives with another value than the schema's default."""
    defaults = {name: leaf.get("default") for name, leaf in schema.leaves().items()}
    found = []
    for entry in entries:
        if entry.status == "refused":
            for path, value in _given(loaded.document.value, entry.field):
                if value != defaults.get(entry.field):
                    found.append(loaded.document.problem(path, entry.note))
    return found


def _given(node: Any, field: str) -> list[tuple[tuple[str | int, ...], Any]]:
    """Where a leaf such as `data.train[].path` stands in a recipe as it was written, with its values."""
    found: list[tuple[tuple[str | int, ...], Any]] = [((), node)]
    for name in field.replace("[]", ".[]").split("."):
        step: list[tuple[tuple[str | int, ...], Any]] = []
        for path, value in found:
            if name == "[]" and isinstance(value, list):
                step += [((*path, n), item) for n, item in enumerate(value)]
            elif isinstance(value, dict) and name in value:
                step.append(((*path, name), value[name]))
        found = step
    return found


def plain(value: Any) -> Any:
    """Tuples and read-only mappings as lists and dicts, for YAML, JSON and comparison."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def runner_fields() -> list[Entry]:
    """The fields that the runner handles in one way for every backend."""
    prepared = "data preparation"
    return [
        runner("name", "the run's directory"),
        runner("description", "shown by `recipe list`"),
        runner("backend", "chooses the adapter"),
        runner("model.revision", "the snapshot that is loaded"),
        runner("model.chat_template", prepared),
        runner("model.chat_template_kwargs", prepared),
        *(
            runner(f"data.{place}[].{leaf}", prepared)
            for place in ("train", "validation.sources")
            for leaf in ("path", "format", "split", "subset", "revision", "columns", "system", "max_samples")
        ),
        *(
            runner(f"data.{leaf}", prepared)
            for leaf in (
                "validation.fraction",
                "max_length",
                "overlong",
                "train_on",
                "test_prompts",
                "on_bad_row",
                "on_note",
                "seed",
            )
        ),
        *(
            runner(f"eval.{leaf}", "scores the finished run")
            for leaf in (
                *("suites", "base", "max_samples", "max_new_tokens", "data", "longbench_subsets", "engine", "scorer"),
                *("judge.base_url", "judge.model", "judge.key_env"),
            )
        ),
        *(
            runner(f"eval.{leaf}", "scores saved checkpoints")
            for leaf in ("every", "mode", "devices", "combined_score", "patience", "best_model")
        ),
    ]
