"""The command line: `recipe VERB …`. Exit codes: 0 done, 1 a step failed, 2 the user's mistake, 130 stopped."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eval import SUITES
from recipes import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the boundary at which mistakes and failures are printed."""
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    try:
        result: int = arguments.verb(arguments) or 0
        return result
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - re-raised where it is our own bug
        return _failed(error)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with what stands after two dashes as `more`; only some verbs pass such on."""
    at = argv.index("--") if "--" in argv else len(argv)
    parser = _parser()
    arguments = parser.parse_args(argv[:at])
    arguments.more = list(argv[at + 1 :])
    if arguments.more and not arguments.takes_more:
        parser.error(f"unrecognized arguments: {' '.join(arguments.more)}")
    return arguments


def _failed(error: Exception) -> int:
    from runner.failure import Failure
    from runner.machine.process import Interrupted

    if isinstance(error, Interrupted):
        print(f"stopped by {error}", file=sys.stderr)
        return 128 + error.number
    if isinstance(error, Failure):
        print(error, file=sys.stderr)
        return 1
    raise error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recipe",
        description="Fine-tune a language model by a recipe, on LLaMA-Factory or verl, and score it in one way.",
        epilog="Start with: recipe list; recipe plan quickstart; recipe run quickstart",
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _recipe_verbs(verbs)
    _run_verbs(verbs)
    _eval_verbs(verbs)
    _machine_verbs(verbs)
    return parser


class _Version(str):
    """Read only when it is printed: importlib.metadata is a tenth of what `--help` costs."""

    def __mod__(self, _values: object) -> str:
        from importlib import metadata

        return f"recipe-runner {metadata.version('recipe-runner')}"


def _version() -> str:
    return _Version("%")


if TYPE_CHECKING:
    from recipes import LoadedRecipe

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def _verb(
    verbs: Verbs, name: str, function: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(verb=function, takes_more=False)
    return parser


def _recipe_verbs(verbs: Verbs) -> None:
    _verb(verbs, "list", _list, "show the catalogue of recipes")
    _verb(verbs, "schema", _schema, "print the recipe's JSON Schema")
    validate = _verb(verbs, "validate", _validate, "check recipes; all mistakes at once, with their places")
    validate.add_argument("recipes", nargs="+", metavar="FILE")
    _set(validate)
    plan = _verb(verbs, "plan", _plan, "show what a recipe would run, and what becomes of each field")
    plan.add_argument("recipe", help="a file, or a name of `recipe list`")
    plan.add_argument("--json", action="store_true", help="for programs: argv, env, files, ledger")
    _where(plan)
    _set(plan)
    reward = verbs.add_parser("reward", help="try a GRPO recipe's rewards", description="Try a GRPO recipe's rewards.")
    attempt = _verb(
        reward.add_subparsers(metavar="VERB", required=True), "try", _reward_try,
        "score sample replies: by default each row's answer, an empty reply and a wrong one",
    )  # fmt: skip
    attempt.add_argument("recipe", help="a file, or a name of `recipe list`")
    which = attempt.add_mutually_exclusive_group()
    which.add_argument("--reply", help="score this reply")
    which.add_argument("--replies", type=Path, metavar="FILE", help="JSON lines of reply and answer, or rollouts")
    attempt.add_argument("--answer", help="the reference for --reply (default: the first row's)")
    attempt.add_argument("--json", action="store_true", help="one JSON object a reply")
    _set(attempt)


def _run_verbs(verbs: Verbs) -> None:
    run = _verb(verbs, "run", _run, "run recipes, one after the other; the last line on stdout is the run's directory")
    run.add_argument("recipes", nargs="+", metavar="RECIPE", help="a file, or a name of `recipe list`")
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--name", help="name of the run's directory (default: the recipe's name, -2, -3, … where taken)")
    run.add_argument("--no-eval", action="store_true", help="do not score the finished run")
    _where(run)
    _env(run)
    _set(run)
    resume = _verb(verbs, "resume", _resume, "go on with a stopped run from its newest whole checkpoint")
    resume.add_argument("run", help="a run's name or directory")
    resume.add_argument("--no-eval", action="store_true", help="do not score the finished run")
    _where(resume)
    _env(resume)
    merge = _verb(verbs, "merge", _merge, "merge a run's LoRA adapter into its base, and check the result")
    merge.add_argument("run", help="a run's name or directory")
    merge.add_argument("--output", type=Path, help="the model's directory (default: merged/ in the run)")
    merge.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    _where(merge)
    serve = _verb(verbs, "serve", _serve, "serve a run's model by vLLM, as OpenAI's interface; ^C ends it")
    serve.add_argument("run", help="a run's name or directory")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_count, default=8000)
    serve.epilog = "What stands after two dashes goes to vLLM: recipe serve RUN -- --max-model-len 4096"
    serve.set_defaults(takes_more=True)
    _where(serve)
    runs = _verb(verbs, "runs", _runs, "list runs")
    runs.add_argument("--json", action="store_true", help="the manifests, one JSON object a line")
    _where(runs)
    logs = _verb(verbs, "logs", _logs, "print a run's newest log")
    logs.add_argument("run", help="a run's name or directory")
    logs.add_argument("-f", "--follow", action="store_true", help="go on printing until the run ends")
    logs.add_argument("-n", "--lines", type=_count, default=None, help="only the last so many lines")
    _where(logs)


def _eval_verbs(verbs: Verbs) -> None:
    evaluate = _verb(
        verbs, "eval", _eval, "score finished runs (all of them by default), or any model on a file of rows"
    )
    evaluate.add_argument("runs", nargs="*", metavar="RUN", help="names or directories of runs")
    evaluate.add_argument("--model", help="a model directory, hub id or bundled model, in place of runs")
    evaluate.add_argument("--data", help="rows in any data format, or the data of the one suite that is named")
    evaluate.add_argument("--methods", nargs="+", metavar="METHOD", help="only runs of these methods")
    evaluate.add_argument("--suites", nargs="+", choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    evaluate.add_argument("--skip", nargs="+", default=[], choices=SUITES, metavar="SUITE", help="suites to leave out")
    evaluate.add_argument("--max-samples", type=_count, help="rows per suite")
    evaluate.add_argument("--max-generation-samples", type=_count, help="rows per suite that generates")
    evaluate.add_argument("--base-model", help="score this as the base model")
    evaluate.add_argument("--engine", choices=("transformers", "vllm"), help="what answers (default: the recipe's)")
    evaluate.add_argument("--subsets", nargs="+", default=[], help="subsets of LongBench; e: all of LongBench-E")
    evaluate.add_argument("--scorer", help="of free answers: rougeL, embedding:DIR or bleurt:DIR")
    evaluate.add_argument("--judge-url", help="OpenAI-compatible endpoint that judges the suite reference")
    evaluate.add_argument("--judge-model", help="the judge's name there")
    evaluate.add_argument("--judge-key-env", metavar="NAME", help="environment variable that holds its key")
    evaluate.add_argument("--output", type=Path, help="directory for the results (default: in each run)")
    evaluate.add_argument("--json", action="store_true", help="print the results as JSON")
    _where(evaluate)
    compare = _verb(verbs, "compare", _compare, "set scored runs beside each other: paired tests, cost, a report")
    compare.add_argument("runs", nargs="*", metavar="RUN", help="names or directories of runs (default: all scored)")
    compare.add_argument("--no-base", action="store_true", help="leave the base models out")
    compare.add_argument("--allow-unlike", action="store_true", help="compare what was not measured alike, and say so")
    compare.add_argument("--output", type=Path, help="directory for the report (default: the runs' directory)")
    compare.add_argument("--json", action="store_true", help="print evaluation_results.json instead of tables")
    _where(compare)
    score = _verb(verbs, "score", _score, "score existing prediction files, without a model")
    score.add_argument("suite", choices=("longbench",))
    score.add_argument("directory", type=Path, help="holds <subset>.jsonl with pred, answers, all_classes, length")
    score.add_argument("--e", action="store_true", help="LongBench-E: scores by length bucket")
    score.add_argument("--json", action="store_true", help="print the scores as JSON")


def _machine_verbs(verbs: Verbs) -> None:
    setup = _verb(verbs, "setup", _setup, "build backend environments ahead of time")
    setup.add_argument("names", nargs="*", metavar="BACKEND", help="llamafactory, verl, eval (the default), eval-vllm")
    _verb(verbs, "doctor", _doctor, "look at the machine and say what to do about what is missing")


def _set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="overrides",
        help="override a field, as in the file",
    )


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs lie (default: runs)")


def _env(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env",
        choices=("locked", "current"),
        default="locked",
        help="current: this interpreter, where it has the backend",
    )


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number, at least 1")
    return int(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _list(_arguments: argparse.Namespace) -> None:
    from recipes import catalogue, load
    from runner.runs.show import table

    recipes = {name: load(path).recipe for name, path in catalogue().items()}
    rows = [(name, r.backend, r.method, r.tuning.type, r.model.path, r.description) for name, r in recipes.items()]
    print(table([("name", "backend", "method", "tuning", "model", "what it is"), *rows]))


def _schema(_arguments: argparse.Namespace) -> None:
    from recipes.schema import SCHEMA_FILE

    print(SCHEMA_FILE.read_text(encoding="utf-8"), end="")


def _validate(arguments: argparse.Namespace) -> int:
    from recipes import load
    from runner.training.planning import check, machines_of

    found = []
    for name in arguments.recipes:
        try:
            loaded = load(name, arguments.overrides)
            check(loaded, machines_of(loaded))
            print(f"{name}: ok")
        except UserError as error:
            found.append(error)
            print(error, file=sys.stderr)
    return 2 if found else 0


def _plan(arguments: argparse.Namespace) -> None:
    from recipes import load

    _show_plan(load(arguments.recipe, arguments.overrides), arguments.runs_dir, as_json=arguments.json)


def _show_plan(loaded: LoadedRecipe, runs_dir: Path, name: str | None = None, *, as_json: bool = False) -> None:
    from runner.runs import show
    from runner.training.planning import check, machines_of, make_plan

    machines = machines_of(loaded)
    check(loaded, machines)
    run = runs_dir.resolve() / (name or loaded.recipe.name)
    plan = make_plan(loaded, machines, run)
    if as_json:
        print(show.plan_json(plan, loaded.recipe, machines))
    else:
        print(show.plan_text(plan, loaded.recipe, machines, run))


def _reward_try(arguments: argparse.Namespace) -> None:
    import json

    from recipes import load
    from runner.training import reward

    loaded = load(arguments.recipe, arguments.overrides)
    tried = reward.try_rewards(loaded, arguments.reply, arguments.replies, arguments.answer)
    if arguments.json:
        for one in tried:
            print(json.dumps(vars(one), ensure_ascii=False))
    else:
        print(reward.text(tried))


def _run(arguments: argparse.Namespace) -> None:
    from recipes import load

    loaded = [load(name, arguments.overrides) for name in arguments.recipes]
    if len(loaded) > 1 and arguments.name:
        raise UserError("--name goes with one recipe; the runs of several have the names of their recipes")
    if arguments.dry_run:
        for one in loaded:
            _show_plan(one, arguments.runs_dir, arguments.name)
        return
    from runner.failure import Failure
    from runner.training.command import run_all
    from runner.training.train import Options

    options = Options(runs_dir=arguments.runs_dir, name=arguments.name, env=arguments.env, say=_say)
    done, failed = run_all(loaded, options, score=not arguments.no_eval)
    for run in done:
        print(run.path)
    if failed:
        raise Failure(f"{', '.join(failed)}; the reasons stand above")


def _resume(arguments: argparse.Namespace) -> None:
    from runner.runs.rundir import find
    from runner.training.command import resume
    from runner.training.train import Options

    run = find(arguments.run, arguments.runs_dir)
    options = Options(runs_dir=arguments.runs_dir, env=arguments.env, say=_say)
    resume(run, options, score=not arguments.no_eval)
    print(run.path)


def _merge(arguments: argparse.Namespace) -> None:
    from runner.runs.merge import merge
    from runner.runs.rundir import find

    print(merge(find(arguments.run, arguments.runs_dir), arguments.output, arguments.dtype, _say))


def _serve(arguments: argparse.Namespace) -> None:
    from runner.runs.rundir import find
    from runner.runs.serve import serve

    run = find(arguments.run, arguments.runs_dir)
    serve(run, arguments.host, arguments.port, arguments.more, _say)


def _runs(arguments: argparse.Namespace) -> None:
    import json

    from runner.runs.rundir import runs
    from runner.runs.show import runs_table

    found = list(runs(arguments.runs_dir))
    if arguments.json:
        for run in found:
            print(json.dumps(run.read() | {"state": run.state(), "path": str(run.path)}, ensure_ascii=False))
    elif found:
        print(runs_table(found))
    else:
        _say(f"no runs in {arguments.runs_dir.resolve()}")


def _logs(arguments: argparse.Namespace) -> None:
    from runner.runs.logs import show
    from runner.runs.rundir import find

    show(find(arguments.run, arguments.runs_dir), follow=arguments.follow, lines=arguments.lines)


def _eval(arguments: argparse.Namespace) -> None:
    from runner.scoring.runs import evaluate

    evaluate(arguments, _say)


def _compare(arguments: argparse.Namespace) -> None:
    from runner.scoring.compare import compare_runs

    compare_runs(arguments, _say)


def _score(arguments: argparse.Namespace) -> None:
    import json

    from eval.score import score_longbench

    scores = score_longbench(arguments.directory, e=arguments.e)
    if arguments.json:
        print(json.dumps(scores, ensure_ascii=False))
        return
    from runner.runs.show import table

    print(table([("subset", "score"), *((name, json.dumps(value)) for name, value in scores.items())]))


def _setup(arguments: argparse.Namespace) -> None:
    from runner.machine.environments import NAMES, ensure, environment
    from runner.machine.topology import visible_gpus

    device = "cuda" if visible_gpus() else "cpu"
    for wanted in [environment(name, device) for name in arguments.names or NAMES]:
        print(f"{wanted.name}: {ensure(wanted, _say)}")


def _doctor(_arguments: argparse.Namespace) -> None:
    from runner.machine.doctor import findings

    for finding in findings():
        print(finding, flush=True)


if __name__ == "__main__":
    sys.exit(main())
