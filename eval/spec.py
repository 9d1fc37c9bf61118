"""What the worker is asked to do: the specification file, checked once and then frozen."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from recipes.errors import UserError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to score: a Hugging Face directory or hub id, or a PEFT adapter with its base.

    `revision` is that of what comes from the hub: the model, or the adapter's base; None is the hub's newest.
    """

    name: str
    path: str
    output: Path
    base: str | None = None
    revision: str | None = None
    run: dict[str, Any] = field(default_factory=dict)


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
class Spec:
    """One evaluation: models × suites, with everything that determines the answers."""

    models: tuple[Model, ...]
    suites: tuple[str, ...]
    data: dict[str, str] = field(default_factory=dict)
    rows: str | None = None
    test_prompts: str | None = None
    max_length: int = 4096
    train_on: str = "all_turns"
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    max_samples: int | None = None
    max_generation_samples: int | None = None
    max_new_tokens: int = 128
    batch_tokens: int = 4096
    dtype: str = "auto"
    device: str = "auto"
    engine: str = "transformers"
    scorer: str = "rougeL"  # of free answers; or embedding:DIRECTORY, bleurt:DIRECTORY
    judge: Judge | None = None  # of the suite reference
    subsets: tuple[str, ...] = ()  # of LongBench; `e`: all of LongBench-E; empty: what there is
    seed: int = 42
    progress: bool = False


def read_spec(path: Path, suites: tuple[str, ...], engines: tuple[str, ...]) -> Spec:
    """The specification in a JSON file.

    Raises:
        UserError: unknown fields, suites or engines, or files that are not there.
    """
    raw = json.loads(path.read_text(encoding="utf-8"))
    problems = _unknown(f"{path}: ", raw, Spec) + _unknown("judge: ", raw.get("judge") or {}, Judge)
    problems += [f"judge: no {name}" for name in ("base_url", "model") if raw.get("judge") and name not in raw["judge"]]
    problems += [f"unknown suite {s!r}{did_you_mean(s, suites)}" for s in raw["suites"] if s not in suites]
    if raw.get("engine", "transformers") not in engines:
        problems.append(f"unknown engine {raw['engine']!r}; allowed: {', '.join(engines)}")
    files = {name: raw.get(name) for name in ("rows", "test_prompts", "chat_template")}
    files |= {f"data of {name}": value for name, value in (raw.get("data") or {}).items()}
    gone = {name: value for name, value in files.items() if value and not Path(value).exists()}
    problems += [f"{name}: {value}: no such file" for name, value in gone.items()]
    if problems:
        raise UserError(*problems)
    models = tuple(Model(**(model | {"output": Path(model["output"])})) for model in raw["models"])
    typed = {
        "models": models,
        "suites": tuple(raw["suites"]),
        "subsets": tuple(raw.get("subsets", ())),
        "judge": Judge(**raw["judge"]) if raw.get("judge") else None,
    }
    return Spec(**(raw | typed))


def _unknown(place: str, given: dict[str, Any], wanted: type[Spec] | type[Judge]) -> list[str]:
    known = {f.name for f in fields(wanted)}
    return [f"{place}unknown field {name!r}{did_you_mean(name, known)}" for name in given if name not in known]
