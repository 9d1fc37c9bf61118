"""The ledger: what becomes of each recipe field on a backend, and the refusals that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recipes import Recipe, schema


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger: what becomes of a recipe field on this backend.

    field: dotted name of the recipe field.
    status: mapped (to `keys` with `value`), runner (the runner does it), refused (`note` says why), native (a key of
        `backend_options`, passed on with its `value`).
    keys: the backend's own; with more than one, `value` has as many parts.
    file: where the keys are written, if not into the backend's main config.
    """

    field: str
    status: Literal["mapped", "runner", "refused", "native"]
    keys: tuple[str, ...] = ()
    value: Any = None
    note: str = ""
    file: str = ""

    @property
    def native(self) -> str:
        """The keys as they are shown."""
        return f"{self.file}: {', '.join(self.keys)}" if self.file else ", ".join(self.keys)

    @property
    def values(self) -> dict[str, Any]:
        """Key to value."""
        return dict(zip(self.keys, self.value, strict=True)) if len(self.keys) > 1 else {self.keys[0]: self.value}


def mapped(field: str, key: str | tuple[str, ...], value: Any, note: str = "", *, file: str = "") -> Entry:
    keys = (key,) if isinstance(key, str) else key
    return Entry(field=field, status="mapped", keys=keys, value=value, note=note, file=file)


def runner(field: str, note: str) -> Entry:
    return Entry(field=field, status="runner", note=note)


def refused(field: str, note: str) -> Entry:
    return Entry(field=field, status="refused", note=note)


def native(recipe: Recipe) -> list[Entry]:
    """The keys of `backend_options`, down to their leaves."""

    def leaves(value: Any, key: str) -> list[Entry]:
        if isinstance(value, dict) and value:
            return [entry for name, item in value.items() for entry in leaves(item, f"{key}.{name}" if key else name)]
        return [Entry(field=f"backend_options.{key}", status="native", keys=(key,), value=value)] if key else []

    return leaves(plain(recipe.backend_options), "")


def kept_checkpoints(recipe: Recipe, native: str) -> Entry:
    """`checkpoint.keep`; the backend keeps all that are to be scored, and the runner removes them after that."""
    if recipe.eval.of_checkpoints:
        return mapped("checkpoint.keep", native, None, "all, until they are scored; then the runner removes the old")
    return mapped("checkpoint.keep", native, recipe.checkpoint.keep)


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
        runner("model.tokenizer", "data preparation, and what the backend saves with the model"),
        runner("model.chat_template", prepared),
        runner("model.chat_template_kwargs", prepared),
        *(
            runner(f"data.{place}[].{leaf}", prepared)
            for place in ("train", "validation.sources")
            for leaf in (
                *("path", "format", "split", "subset", "revision", "columns", "system", "max_samples", "shuffle"),
                *("weight", "min_margin", "encoding", "delimiter", "text", "subsets", "answers"),
            )
        ),
        *(
            runner(f"data.{leaf}", prepared)
            for leaf in (
                "validation.fraction",
                "max_length",
                "max_samples",
                "overlong",
                "train_on",
                "test_prompts",
                "on_bad_row",
                "allow_loss",
                "on_note",
                "irregular",
                "contamination",
                "dedup",
                "dedup_threshold",
                "thinking",
                "seed",
            )
        ),
        *(
            runner(f"eval.{leaf}", "scores the finished run")
            for leaf in (
                *(
                    "suites",
                    "base",
                    "max_samples",
                    "thinking",
                    "max_new_tokens",
                    "max_thought_tokens",
                    "allow_code",
                    "data",
                    "longbench_subsets",
                    "engine",
                    "scorer",
                ),
                *(f"measures[].{leaf}" for leaf in ("name", "type", "path", "pattern", "target", "better")),
                *("judge.base_url", "judge.model", "judge.key_env"),
                *("lm_eval.num_fewshot", "lm_eval.generation", "lm_eval.batch", "lm_eval.chat_template"),
                *("lm_eval.system", "lm_eval.think_end_token"),
            )
        ),
        *(runner(leaf, "`recipe launch`") for leaf in schema.leaves() if leaf.startswith("launch.")),
        *(
            runner(f"eval.{leaf}", "scores saved checkpoints")
            for leaf in ("every", "mode", "devices", "combined_score", "patience", "best_model")
        ),
    ]
