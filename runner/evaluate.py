"""Scores finished runs and model directories in the evaluation environment, the base model beside the tuned one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.plan import CPU_ENV, plain
from recipes import Recipe, UserError
from runner import bundled, diagnose, environments, process
from runner.environments import clean_environment, environment
from runner.failure import Failure
from runner.files import code_directory, read_json, write_json
from runner.rows import canonical
from runner.rundir import Run
from runner.show import table
from runner.topology import topology


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `recipe eval` was asked for; None leaves it to the run's recipe."""

    suites: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    max_samples: int | None = None
    max_generation_samples: int | None = None
    engine: str = "transformers"
    base: bool | None = None
    base_model: str | None = None
    data: dict[str, str] | None = None
    output: Path | None = None


def evaluate_run(run: Run, options: EvalOptions, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Score a finished run; returns results by model name (`base`, `tuned`).

    Raises:
        UserError: the run has not succeeded, or a suite has no data.
        Failure: the evaluation failed.
    """
    state = run.state()
    if state != "succeeded":
        raise UserError(
            f"{run.name} has state {state}: only a run that succeeded can be scored (`recipe resume {run.name}`?)"
        )
    recipe = run.recipe().recipe
    suites = [s for s in (options.suites or recipe.eval.suites or ("perplexity",)) if s not in options.skip]
    base = _base_model(recipe, options)
    output = options.output / run.name if options.output else run.path / "eval"
    info = {"run": run.name, "backend": recipe.backend, "method": recipe.method, "tuning": recipe.tuning.type}
    models = [_model("tuned", run.model, base if recipe.tuning.type == "lora" else None, output, info)]
    if recipe.eval.base if options.base is None else options.base:
        models.insert(0, _model("base", base, None, output / "base", {**info, "tuning": "none"}))
    spec = {
        "models": models,
        "suites": suites,
        "data": {**recipe.eval.data, **(options.data or {})},
        "rows": _existing(run.path / "data" / "validation.jsonl"),
        "test_prompts": _existing(run.path / "data" / "test_prompts.json"),
        "max_length": recipe.data.max_length,
        "train_on": recipe.data.train_on,
        "chat_template": recipe.model.chat_template,
        "chat_template_kwargs": plain(recipe.model.chat_template_kwargs),
        "trust_remote_code": recipe.model.trust_remote_code,
        "max_samples": options.max_samples or recipe.eval.max_samples,
        "max_new_tokens": recipe.eval.max_new_tokens,
    }
    return _score(spec, output, options, run.mark(), say)


def evaluate_model(path: str, rows: Path | None, options: EvalOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Score any model directory (or bundled model) on a file of rows."""
    model = _located(path, say)
    output = (options.output or Path("eval-results")).resolve()
    base = _located(options.base_model, say) if options.base_model else None
    spec = {
        "models": [_model("model", model, base, output, {})],
        "suites": list(options.suites or ("perplexity",)),
        "data": options.data or {},
        "rows": str(canonical(rows, output / "rows.jsonl")) if rows else None,
        "test_prompts": None,
        "max_length": 4096,
        "train_on": "all_turns",
        "chat_template": None,
        "chat_template_kwargs": {},
        "trust_remote_code": False,
        "max_samples": options.max_samples,
        "max_new_tokens": 128,
    }
    return _score(spec, output, options, f"eval:{output}", say)["model"]


def _base_model(recipe: Recipe, options: EvalOptions) -> str | Path:
    if options.base_model:
        return options.base_model
    return bundled.directory() if recipe.model.path.startswith("bundled:") else recipe.model.path


def _located(path: str, say: Callable[[str], None]) -> str | Path:
    if path.startswith("bundled:"):
        return bundled.ensure(environments.ensure(environment("eval", "cpu"), say), say)
    if Path(path).is_dir():
        return Path(path).resolve()
    if path.startswith((".", "/", "~")):
        raise UserError(f"--model {path}: no such directory")
    return path


def _existing(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def _model(name: str, path: str | Path, base: str | Path | None, output: Path, info: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "path": str(path), "base": str(base) if base else None, "output": str(output), "run": info}


def _score(
    spec: dict[str, Any], output: Path, options: EvalOptions, mark: str, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    python = environments.ensure(
        environment(environments.VLLM if options.engine == "vllm" else "eval", topology().device), say
    )
    if any("bundled" in m["path"] for m in spec["models"]):
        bundled.ensure(python, say)
    spec |= {
        "max_generation_samples": options.max_generation_samples,
        "batch_tokens": 4096,
        "dtype": "auto",
        "device": "auto",
        "engine": options.engine,
        "seed": 42,
        "progress": sys.stderr.isatty(),
    }
    write_json(output / "spec.json", spec)
    say(f"scoring {', '.join(spec['suites'])}")
    log = output / "eval.log"
    offset = log.stat().st_size if log.is_file() else 0
    follow = _Follow(log, offset, say)
    with process.signals_raise():
        code = process.run(
            [str(python), "-m", "eval.worker", str(output / "spec.json")],
            cwd=output,
            env=clean_environment({"PYTHONPATH": str(code_directory()), "PYTHONUNBUFFERED": "1", **CPU_ENV}),
            log=log,
            mark=mark,
            poll=follow,
        )
    if code == 2:
        raise UserError(*(diagnose.tail(log, 3).splitlines()))
    if code:
        last = diagnose.tail(log)
        raise Failure("the evaluation", cause=diagnose.cause(last, code), tail=last, log=log)
    return {m["name"]: read_json(Path(m["output"]) / "results.json") for m in spec["models"]}


class _Follow:
    """Passes the worker's plain progress lines on."""

    def __init__(self, log: Path, offset: int, say: Callable[[str], None]) -> None:
        self.log, self.offset, self.say = log, offset, say

    def __call__(self) -> None:
        if not self.log.is_file():
            return
        with self.log.open("rb") as stream:
            stream.seek(self.offset)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if line.startswith("eval: "):
                self.say(f"  {line.removeprefix('eval: ')}")


def results_table(results: dict[str, dict[str, Any]]) -> str:
    """Metrics down, models across, each with its 95 % interval and n."""
    names = list(results)
    metrics = list(dict.fromkeys(metric for result in results.values() for metric in result["metrics"]))
    rows: list[Sequence[str]] = [("metric", *names, "n")]
    for metric in metrics:
        found = [results[name]["metrics"].get(metric) for name in names]
        counted = next((f["n"] for f in found if f), "-")
        rows.append((metric, *(_cell(f) for f in found), str(counted)))
    return table(rows)


def _cell(metric: dict[str, Any] | None) -> str:
    if not metric or metric["value"] is None:
        return "-"
    interval = metric.get("ci95")
    shown = f"{metric['value']:.4g}"
    return f"{shown} [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else shown
