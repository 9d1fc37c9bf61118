"""What the worker is asked to do: the specification file, checked once and then frozen."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from recipes.errors import UserError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to score: a Hugging Face directory or hub id, or a PEFT adapter with its base."""

    name: str
    path: str
    output: Path
    base: str | None = None
    run: dict[str, Any] = field(default_factory=dict)


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
    subsets: tuple[str, ...] = ()  # of LongBench; `e`: all of LongBench-E; empty: what there is
    seed: int = 42
    progress: bool = False


def read_spec(path: Path, suites: tuple[str, ...], engines: tuple[str, ...]) -> Spec:
    """The specification in a JSON file.

    Raises:
        UserError: unknown fields, suites or engines, or files that are not there.
    """
    raw = json.loads(path.read_text(encoding="utf-8"))
    known = {f.name for f in fields(Spec)}
    problems = [f"{path}: unknown field {name!r}{did_you_mean(name, known)}" for name in raw if name not in known]
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
    return Spec(**(raw | {"models": models, "suites": tuple(raw["suites"]), "subsets": tuple(raw.get("subsets", ()))}))
