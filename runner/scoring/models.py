"""Scores finished runs and model directories in the evaluation environment, the base model beside the tuned one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.ledger import plain
from adapters.native import CPU_ENV
from eval import ROW_SUITES
from recipes import Recipe, UserError
from recipes.files import read_json, write_json
from runner.failure import Failure
from runner.files import NewLines, code_directory
from runner.machine import bundled, diagnose, environments, process
from runner.machine.environments import clean_environment, environment
from runner.machine.topology import topology
from runner.runs.rundir import Run, runs
from runner.runs.show import table
from runner.scoring.rows import canonical


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `recipe eval` was asked for; None leaves it to the run's recipe."""

    suites: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    max_samples: int | None = None
    max_generation_samples: int | None = None
    engine: str | None = None
    scorer: str | None = None
    subsets: tuple[str, ...] = ()
    judge: dict[str, str | None] | None = None
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
    base = options.base_model or bundled.located(recipe.model.path)
    revision = None if options.base_model else recipe.model.revision
    output = options.output / run.name if options.output else run.path / "eval"
    under = base if recipe.tuning.type == "lora" else None
    models = [_model("tuned", run.model, under, output, _info(run, recipe), revision)]
    if recipe.eval.base if options.base is None else options.base:
        info = _info(run, recipe) | {"tuning": "none"}
        models.insert(0, _model("base", base, None, output / "base", info, revision))
    if not options.output:
        _take_answers(run)
    with process.signals_raise():
        _worker(_run_spec(run, recipe, options, models, say), output, options, run.mark("eval"), say)
    return _results(models)


def evaluate_checkpoint(run: Run, model: Path, output: Path, say: Callable[[str], None]) -> None:
    """Score a checkpoint of a run that goes on, exported to `model`; as the finished run, but without its base.

    Raises:
        UserError, Failure: as `evaluate_run`.
    """
    recipe, options = run.recipe().recipe, EvalOptions()
    base = bundled.located(recipe.model.path) if recipe.tuning.type == "lora" else None
    models = [_model("tuned", model, base, output, _info(run, recipe), recipe.model.revision)]
    _worker(_run_spec(run, recipe, options, models, say), output, options, run.mark("eval"), say, recipe.eval.devices)


def check_suites(run: Run, say: Callable[[str], None]) -> None:
    """Read the data of the recipe's suites before hours of training, where they are not the run's own rows.

    Raises:
        UserError: a suite has no data, or it is malformed.
    """
    recipe, options, output = run.recipe().recipe, EvalOptions(), run.path / "eval"
    if set(recipe.eval.suites) <= set(ROW_SUITES):
        return
    models = [_model("base", bundled.located(recipe.model.path), None, output, {}, recipe.model.revision)]
    _worker(_run_spec(run, recipe, options, models, say), output, options, run.mark("eval"), say, check=True)


def _take_answers(run: Run) -> None:
    """Answers are keyed by the model's content, so those of a checkpoint, or of another run's base, serve again."""
    own = run.path / "eval"
    _take(own / f"eval_step_{run.read().get('model_step')}", own)
    model = run.read()["model"]
    for other in runs(run.path.parent):
        if other.path != run.path and other.read()["model"] == model:
            _take(other.path / "eval" / "base", own / "base")


def _take(source: Path, target: Path) -> None:
    answers, kept = (directory / "cache" / "answers.jsonl" for directory in (source, target))
    if answers.is_file() and not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(answers, kept)


def _info(run: Run, recipe: Recipe) -> dict[str, Any]:
    return {"run": run.name, "backend": recipe.backend, "method": recipe.method, "tuning": recipe.tuning.type}


def _run_spec(
    run: Run, recipe: Recipe, options: EvalOptions, models: list[dict[str, Any]], say: Callable[[str], None]
) -> dict[str, Any]:
    wanted = [s for s in (options.suites or recipe.eval.suites or ("perplexity",)) if s not in options.skip]
    data = {**recipe.eval.data, **(options.data or {})}
    left_out = {s: text for s in wanted if s not in data and (text := _no_rows(s, recipe.method))}
    for suite, text in left_out.items():
        say(f"{suite} is left out: {text}; it can have rows of its own as eval.data.{suite}")
    if not set(wanted) - set(left_out):
        raise UserError(f"{run.name}: no suite is left to score", *(f"{s}: {text}" for s, text in left_out.items()))
    output = Path(models[0]["output"])
    for suite in set(ROW_SUITES) & set(data) & set(wanted):
        data[suite] = str(canonical(Path(data[suite]), output / "rows" / f"{suite}.jsonl"))
    return {
        "models": models,
        "suites": [s for s in wanted if s not in left_out],
        "data": data,
        "rows": _existing(run.path / "data" / "validation.jsonl"),
        "test_prompts": _existing(run.path / "data" / "test_prompts.json"),
        "max_length": recipe.data.max_length,
        "train_on": recipe.data.train_on,
        "chat_template": recipe.model.chat_template,
        "chat_template_kwargs": plain(recipe.model.chat_template_kwargs),
        "trust_remote_code": recipe.model.trust_remote_code,
        "max_samples": options.max_samples or recipe.eval.max_samples,
        "max_new_tokens": recipe.eval.max_new_tokens,
        "engine": options.engine or recipe.eval.engine,
        "scorer": options.scorer or recipe.eval.scorer,
        "subsets": list(options.subsets or recipe.eval.longbench_subsets),
        "judge": options.judge or (asdict(recipe.eval.judge) if recipe.eval.judge.base_url else None),
    }


def evaluate_model(path: str, rows: Path | None, options: EvalOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Score any model directory (or bundled model) on a file of rows."""
    model = _located(path, say)
    output = (options.output or Path("eval-results")).resolve()
    base = _located(options.base_model, say) if options.base_model else None
    models = [_model("model", model, base, output, {})]
    spec = {
        "models": models,
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
        "engine": options.engine or "transformers",
        "scorer": options.scorer or "rougeL",
        "subsets": list(options.subsets),
        "judge": options.judge,
    }
    with process.signals_raise():
        _worker(spec, output, options, f"eval:{output}", say)
    return _results(models)["model"]


def _no_rows(suite: str, method: str) -> str | None:
    """Why the validation rows of a method cannot serve a suite; None where they can."""
    if suite == "preference" and method not in ("dpo", "orpo"):
        return f"{method} rows have no chosen and rejected replies"
    return "grpo rows have no reply" if suite == "perplexity" and method == "grpo" else None


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


def _model(
    name: str,
    path: str | Path,
    base: str | Path | None,
    output: Path,
    info: dict[str, Any],
    revision: str | None = None,
) -> dict[str, Any]:
    """A model as the worker is told (eval.spec.Model)."""
    places = {"path": str(path), "base": str(base) if base else None, "output": str(output)}
    return {"name": name, **places, "run": info, "revision": revision}


def _results(models: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {m["name"]: read_json(Path(m["output"]) / "results.json") for m in models}


def _worker(
    spec: dict[str, Any],
    output: Path,
    options: EvalOptions,
    mark: str,
    say: Callable[[str], None],
    devices: Sequence[str] = (),
    *,
    check: bool = False,
) -> None:
    """Run the worker on a specification, in its environment; `check`: only read the data that it names."""
    if not check:
        say(f"scoring {', '.join(spec['suites'])}")
    name = environments.VLLM if spec["engine"] == "vllm" else "eval"
    python = environments.ensure(environment(name, topology().device), say)
    if any("bundled" in m["path"] for m in spec["models"]):
        bundled.ensure(python, say)
    spec |= {
        "max_generation_samples": options.max_generation_samples,
        "batch_tokens": 4096,
        "dtype": "auto",
        "device": "auto",
        "seed": 42,
        "progress": sys.stderr.isatty(),
    }
    write_json(output / "spec.json", spec)
    log = output / "eval.log"
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
    own = {"PYTHONPATH": str(code_directory()), "PYTHONUNBUFFERED": "1", **CPU_ENV, **chosen}
    code = process.run(
        [str(python), "-m", "eval.worker", str(output / "spec.json"), *(["--check"] if check else [])],
        cwd=output,
        env=clean_environment(own),
        log=log,
        mark=mark,
        poll=_follow(log, say),
    )
    if code == 2:
        raise UserError(*(diagnose.tail(log, 3).splitlines()))
    if code:
        last = diagnose.tail(log)
        raise Failure("the evaluation", cause=diagnose.cause(last, code), tail=last, log=log)


def _follow(log: Path, say: Callable[[str], None]) -> Callable[[], None]:
    """Passes the worker's plain progress lines on, from now."""
    new = NewLines(log, log.stat().st_size if log.is_file() else 0)

    def poll() -> None:
        for line in new():
            if line.startswith("eval: "):
                say(f"  {line.removeprefix('eval: ')}")

    return poll


def results_table(results: dict[str, dict[str, Any]]) -> str:
    """Metrics down, models across, each with its 95 % interval and n."""
    from eval.report.tables import summary

    return table(summary({name: result["metrics"] for name, result in results.items()}))
