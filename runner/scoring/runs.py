"""What `recipe eval` does: pick the runs, score each, print and write the results over all."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval import ROW_SUITES
from recipes import UserError
from runner.failure import Failure
from runner.runs.rundir import Run, find
from runner.runs.rundir import runs as all_runs
from runner.scoring.compare import report_runs
from runner.scoring.models import EvalOptions, evaluate_model, evaluate_run, results_table
from runner.training.checkpoint_scores import write_final_results


def evaluate(arguments: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Score what the command line names.

    Raises:
        UserError: nothing to score, or options that do not go together.
    """
    options = EvalOptions(
        suites=tuple(arguments.suites) if arguments.suites else None,
        skip=tuple(arguments.skip),
        max_samples=arguments.max_samples,
        max_generation_samples=arguments.max_generation_samples,
        engine=arguments.engine,
        scorer=_scorer(arguments.scorer),
        subsets=tuple(arguments.subsets),
        judge=_judge(arguments),
        base_model=arguments.base_model,
        data=_suite_data(arguments),
        output=arguments.output.resolve() if arguments.output else None,
    )
    if arguments.model:
        _one_model(arguments, options, say)
        return
    results: dict[str, Any] = {}
    failed: list[str] = []
    runs = _chosen(arguments, say)
    for run in runs:
        say(f"{run.name}:")
        try:
            results[run.name] = score_run(run, options, say)
        except (UserError, Failure) as error:
            if len(runs) == 1:
                raise
            failed.append(run.name)
            say(str(error))
            continue
        if not arguments.json:
            print(f"{run.name}\n{results_table(results[run.name])}\n")
    if arguments.json:
        print(json.dumps(results, ensure_ascii=False))
    scored = [run for run in runs if run.name in results]
    if scored:
        report_runs(scored, options.output or arguments.runs_dir, say, options.output)
    if failed:
        raise Failure(f"{', '.join(failed)} could not be scored; the reasons stand above")


def score_run(run: Run, options: EvalOptions, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Score a finished run, and leave its own report beside the results.

    Raises:
        UserError, Failure: as `evaluate_run`.
    """
    results = evaluate_run(run, options, say)
    if not options.output:
        write_final_results(run, results)
        report_runs([run], run.path / "eval", say)
    return results


def _suite_data(arguments: argparse.Namespace) -> dict[str, str]:
    """`--data` is the named suite's own data; with --model, the rows of all suites that read rows."""
    named = [s for s in arguments.suites or [] if not arguments.model or s not in ROW_SUITES]
    if not arguments.data or not named:
        return {}
    if len(named) > 1:
        raise UserError(f"--data goes with one suite, not with {', '.join(named)}; score them one after the other")
    return {named[0]: str(_existing(arguments.data))}


def _scorer(text: str | None) -> str | None:
    """`embedding:DIR` with DIR made absolute: the worker has another directory."""
    kind, colon, where = (text or "").partition(":")
    if text and kind not in (("embedding", "bleurt") if colon else ("rougeL",)):
        raise UserError(f"--scorer {text}; allowed: rougeL, embedding:DIR, bleurt:DIR")
    return f"{kind}:{Path(where).resolve()}" if colon else text


def _judge(arguments: argparse.Namespace) -> dict[str, str | None] | None:
    if bool(arguments.judge_url) != bool(arguments.judge_model):
        raise UserError("--judge-url and --judge-model go together")
    if not arguments.judge_url:
        return None
    return {"base_url": arguments.judge_url, "model": arguments.judge_model, "key_env": arguments.judge_key_env}


def _existing(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not path.exists():
        raise UserError(f"--data {text}: no such file or directory")
    return path


def _one_model(arguments: argparse.Namespace, options: EvalOptions, say: Callable[[str], None]) -> None:
    if arguments.runs:
        raise UserError("--model goes without runs; score them one after the other")
    rows = None if options.data or not arguments.data else _existing(arguments.data)
    if rows is None and not options.data and not set(arguments.suites or ()) - set(ROW_SUITES):
        raise UserError("--model needs --data: a file of rows, or the data of the suite that is named")
    result = evaluate_model(arguments.model, rows, options, say)
    if arguments.json:
        json.dump(result, sys.stdout, ensure_ascii=False)
        print()
    else:
        print(results_table({"model": result}))


def _chosen(arguments: argparse.Namespace, say: Callable[[str], None]) -> list[Run]:
    if arguments.runs:
        return [find(name, arguments.runs_dir) for name in arguments.runs]
    found: list[Run] = []
    for run in all_runs(arguments.runs_dir):
        state, method = run.state(), _method(run)
        if arguments.methods and method not in arguments.methods:
            continue
        if state == "succeeded":
            found.append(run)
        else:
            say(f"{run.name} is left out: {state}")
    if not found:
        raise UserError(f"no finished run in {arguments.runs_dir.resolve()}")
    return found


def _method(run: Run) -> Any:
    return run.read()["method"]
