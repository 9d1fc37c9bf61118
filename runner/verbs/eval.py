"""`recipe eval`: scores finished runs with one set of suites, or any model on a file of rows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.data_files import there
from recipes.errors import UserError
from recipes.model_checks import SWITCHES
from recipes.paths import template_file, template_problem
from recipes.secret import ADDRESSED
from recipes.suites import LM_EVAL, ROW_SUITES, SUITES
from recipes.typed import to_json
from recipes.visible import visible
from recipes.yaml_text import parse_value
from runner.verbs import options
from runner.verbs.options import say

if TYPE_CHECKING:
    from eval.report.results import Results
    from eval.spec import Judge
    from runner.runs.rundir import Run
    from runner.scoring.models import EvalOptions

EXAMPLES = (
    "recipe eval",
    "recipe eval finance_lora --suites perplexity truthfulqa --max-samples 100",
    "recipe eval --model ./my-model --data rows.jsonl",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="names or directories of runs (default: all that succeeded)")
    add("--model", help="a model directory, Hub id or bundled model, instead of runs")
    add("--data", help="rows in any data format, or the data of the one suite that is named")
    add("--methods", nargs="+", metavar="METHOD", help="only runs of these methods")
    suites = f"{', '.join(SUITES)}, or lm_eval:TASK: a task, a group or a YAML file of lm-eval"
    add("--suites", nargs="+", type=options.suite, metavar="SUITE", help=suites)
    add("--skip", nargs="+", default=[], type=options.suite, metavar="SUITE", help="suites to leave out")
    add("--max-samples", type=options.count, help="rows per suite")
    add("--max-generation-samples", type=options.count, help="rows per suite that generates")
    add("--max-new-tokens", type=options.count, help="tokens of a reply (default: the recipe's, or 128)")
    add("--max-thought-tokens", type=options.count, help="tokens of a reply's thinking, beside those of its answer")
    add(
        "--max-length",
        type=options.count,
        help="tokens read of a row (default: the recipe's, or what --model takes)",
    )
    add(
        "--chat-template",
        metavar="FILE",
        help="with --model: a Jinja file, or a name such as chatml",
    )
    add("--chat-template-kwargs", nargs="+", default=[], metavar="NAME=VALUE", help="with --model: template variables")
    add("--thinking", choices=("auto", "on", "off"), help="ask generating suites with the template's enable_thinking")
    add("--allow-code", action="store_true", help="run the code that a model writes for a task, in a sandbox")
    add("--base-model", help="score this as the base model")
    add("--engine", choices=("transformers", "vllm"), help="inference engine (default: the recipe's)")
    add("--subsets", nargs="+", default=[], help="LongBench subsets; e for all of LongBench-E")
    add("--scorer", help="scorer of free answers: rougeL, embedding:DIR or bleurt:DIR")
    add("--judge-url", help="OpenAI-compatible endpoint that judges the replies of the suite reference")
    add("--judge-model", help="name of the judge model at that endpoint")
    add("--judge-key-env", metavar="NAME", help="environment variable with the judge's API key")
    add("--output", type=options.path, help="directory for the results (default: in each run)")
    add("--json", action="store_true", help="print the results as JSON")
    options.add_trust(parser)
    options.add_runs_dir(parser)


def run(arguments: argparse.Namespace) -> None:
    import json

    from runner.failure import Failure
    from runner.scoring.compare import report_over_all, report_runs
    from runner.scoring.models import EvalOptions, results_table
    from runner.scoring.names import names_of
    from runner.scoring.runs import score_run

    how = EvalOptions(
        suites=tuple(arguments.suites) if arguments.suites else None,
        skip=tuple(arguments.skip),
        max_samples=arguments.max_samples,
        max_generation_samples=arguments.max_generation_samples,
        max_new_tokens=arguments.max_new_tokens,
        max_thought_tokens=arguments.max_thought_tokens,
        engine=arguments.engine,
        scorer=_scorer(arguments.scorer),
        subsets=tuple(arguments.subsets),
        judge=_judge(arguments),
        base_model=arguments.base_model,
        data=_suite_data(arguments),
        max_length=arguments.max_length,
        chat_template=_chat_template(arguments),
        chat_template_kwargs=_variables(arguments.chat_template_kwargs),
        thinking=arguments.thinking,
        allow_code=arguments.allow_code,
        output=arguments.output.resolve() if arguments.output else None,
        trust_run=arguments.trust_run,
    )
    if arguments.model:
        _one_model(arguments, how)
        return
    results: dict[str, dict[str, Results]] = {}
    failed: list[str] = []
    runs = _chosen(arguments)
    names = names_of(runs)
    if how.output:
        _check_apart(runs, how.output)
    for one in runs:
        name = names[one.path]
        say(f"{name}:")
        try:
            results[name] = score_run(one, how, say)
        except (UserError, Failure) as error:
            if len(runs) == 1:
                raise
            failed.append(name)
            say(str(error))
            continue
        if not arguments.json:
            print(visible(f"{name}\n{results_table(results[name])}\n"))
    if arguments.json:
        print(json.dumps(to_json(results), ensure_ascii=False))
    scored = [one for one in runs if names[one.path] in results]
    if scored and how.output:
        report_runs(scored, how.output, say, how.output)
    elif scored:  # the report over all is never one over fewer
        report_over_all(scored, arguments.runs_dir, say)
    if failed:
        raise Failure(f"{', '.join(failed)} could not be scored; see the errors above")


def _check_apart(runs: Sequence[Run], output: Path) -> None:
    """Raise UserError for runs whose results would have one directory in `output`, which is called as the run is."""
    for n, run in enumerate(runs):
        for before in runs[:n]:
            if before.name == run.name:
                text = f"the results of {before.path} and {run.path} would both be written to {output / run.name}"
                raise UserError(f"--output: {text}; score each with an --output of its own")


def _suite_data(arguments: argparse.Namespace) -> dict[str, str]:
    """`--data` is the named suite's own data; with --model, the rows of all suites that read rows."""
    if arguments.data and not arguments.model and not arguments.suites:
        raise UserError("--data: of which suite? name it with --suites, or give a --model to score on these rows")
    named = [s for s in arguments.suites or [] if not arguments.model or s not in ROW_SUITES]
    if not arguments.data or not named:
        return {}
    of_task = [suite for suite in named if suite.startswith(LM_EVAL)]
    if of_task:
        raise UserError(f"--data: {of_task[0]} has the data that its task names; a task file can name files of yours")
    if len(named) > 1:
        raise UserError(f"--data goes with one suite, not with {', '.join(named)}; score them one after the other")
    return {named[0]: str(_existing(arguments.data))}


def _scorer(text: str | None) -> str | None:
    """`embedding:DIR` with DIR made absolute: the worker has another directory."""
    kind, colon, where = (text or "").partition(":")
    if text and kind not in (("embedding", "bleurt") if colon else ("rougeL",)):
        raise UserError(f"--scorer {text}; allowed: rougeL, embedding:DIR, bleurt:DIR")
    return f"{kind}:{Path(where).resolve()}" if colon else text


def _judge(arguments: argparse.Namespace) -> Judge | None:
    if bool(arguments.judge_url) != bool(arguments.judge_model):
        raise UserError("--judge-url and --judge-model must be given together")
    if not arguments.judge_url:
        if arguments.judge_key_env:
            raise UserError("--judge-key-env belongs to a judge; give --judge-url and --judge-model too")
        return None
    if not arguments.judge_url.startswith(("http://", "https://")):
        raise UserError(f"--judge-url {arguments.judge_url}: expected an address that begins with http:// or https://")
    if ADDRESSED.search(arguments.judge_url):
        raise UserError("--judge-url: a password must not stand in it, as results keep it; use --judge-key-env")
    from eval.spec import Judge

    return Judge(base_url=arguments.judge_url, model=arguments.judge_model, key_env=arguments.judge_key_env)


def _chat_template(arguments: argparse.Namespace) -> str | None:
    given = arguments.chat_template
    if not arguments.model and (given or arguments.chat_template_kwargs):
        raise UserError("--chat-template goes with --model: a run is scored with the template that it was trained with")
    if not given:
        return None
    if problem := template_problem(given, Path.cwd()):
        raise UserError(f"--chat-template: {problem}")
    return str(template_file(given, Path.cwd()))


def _variables(texts: Sequence[str]) -> dict[str, Any]:
    """`enable_thinking=false` as YAML reads its value, as in a recipe."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--chat-template-kwargs {text}: write it as NAME=VALUE, such as enable_thinking=false")
        found[name] = parse_value(value)
        if isinstance(found[name], (dict, list)):
            raise UserError(f"--chat-template-kwargs {text}: expected a text, a number, true or false")
        if isinstance(found[name], str) and found[name].lower() in SWITCHES:
            raise UserError(f"--chat-template-kwargs {text}: a text is true to a template; write true or false")
    return found


def _existing(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not there(path):
        raise UserError(f"--data {text}: no such file or directory")
    return path


def _one_model(arguments: argparse.Namespace, how: EvalOptions) -> None:
    import json

    from runner.scoring.models import evaluate_model, results_table

    if arguments.runs:
        raise UserError("--model: give either a model or runs")
    rows = None if how.data or not arguments.data else _existing(arguments.data)
    if rows is None and not how.data and not set(arguments.suites or ()) - set(ROW_SUITES):
        raise UserError("--model needs --data: a file of rows, or the data of the suite that is named")
    result = evaluate_model(arguments.model, rows, how, say)
    if arguments.json:
        print(json.dumps(to_json(result), ensure_ascii=False))
    else:
        print(results_table({"model": result}))


def _chosen(arguments: argparse.Namespace) -> list[Run]:
    from runner.runs.rundir import Damaged, find
    from runner.runs.rundir import runs as all_runs

    if arguments.runs:
        named = [find(name, arguments.runs_dir) for name in arguments.runs]
        return list({run.path: run for run in named}.values())
    found: list[Run] = []
    for run in all_runs(arguments.runs_dir):
        try:
            state = run.state()
        except Damaged as error:
            say(f"left out: {error}")
            continue
        if arguments.methods and run.read().method not in arguments.methods:
            continue
        if state == "succeeded":
            found.append(run)
        else:
            say(f"{run.name} is left out: {state}")
    if not found:
        raise UserError(f"no finished run in {arguments.runs_dir.resolve()}")
    return found
