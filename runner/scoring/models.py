"""Scores finished runs and model directories in the evaluation environment, the base model beside the tuned one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.report.results import Results
from eval.spec import LONGEST, Judge, LmEval, Model, Spec
from recipes import Recipe, UserError
from recipes.files import remove_temporaries
from recipes.methods import METHODS
from recipes.suite_checks import lacking
from recipes.suites import GENERATING, JUDGED, LM_EVAL, OF_SCORES, ROW_SUITES, SCORED, no_replies
from recipes.typed import from_json, to_json
from recipes.types import Eval
from runner.machine import bundled, environments, process
from runner.machine.environments import environment
from runner.runs.claim import Claimed, claim
from runner.runs.rundir import Run
from runner.runs.show import table
from runner.runs.trust import check_links, check_trusted
from runner.scoring.answers import take_answers
from runner.scoring.earlier import earlier_results, with_earlier
from runner.scoring.rows import canonical
from runner.scoring.workers import run_workers


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `recipe eval` was asked for; None leaves it to the run's recipe."""

    suites: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    max_samples: int | None = None
    max_generation_samples: int | None = None
    max_new_tokens: int | None = None
    max_thought_tokens: int | None = None
    engine: str | None = None
    scorer: str | None = None
    subsets: tuple[str, ...] = ()
    judge: Judge | None = None
    base: bool | None = None
    base_model: str | None = None
    data: dict[str, str] | None = None
    max_length: int | None = None
    chat_template: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    thinking: str | None = None
    allow_code: bool = False
    output: Path | None = None
    trust_run: bool = False
    judged: Eval | None = None  # in the place of the recipe's section `eval`


def evaluate_run(run: Run, options: EvalOptions, say: Callable[[str], None]) -> dict[str, Results]:
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
    check_links(run)
    recipe = run.recipe().recipe
    check_trusted(run, recipe, "eval", trusted=options.trust_run)
    recipe = replace(recipe, eval=options.judged or recipe.eval)
    output = options.output / run.name if options.output else run.path / "eval"
    models = models_of(run, recipe, options, output, say)
    if not options.output:
        take_answers(run)
    with process.signals_raise(), _alone(run):
        earlier = {model.name: earlier_results(model, say) for model in models}
        run_workers(run_spec(run, recipe, options, models, say), output, run.mark("eval"), say)
        return {model.name: with_earlier(model, earlier[model.name], say) for model in models}


def models_of(run: Run, recipe: Recipe, options: EvalOptions, output: Path, say: Callable[[str], None]) -> list[Model]:
    """The tuned model, and before it the base where that is wanted."""
    tuned = tuned_of(run, recipe, output)
    if METHODS[recipe.method].scores:
        _check_scores(run, options)
        say(f"{run.name} is a reward model: its base has no head to score with, and is not scored beside it")
        return [tuned]
    if not options.base_model and not (recipe.eval.base if options.base is None else options.base):
        return [tuned]
    base = base_of(run, recipe, output / "base")
    if options.base_model:
        base = Model(name="base", path=_located(options.base_model, say), output=base.output, run=base.run)
    return [base, tuned]


def _check_scores(run: Run, options: EvalOptions) -> None:
    """Raise UserError for what cannot be asked of a reward model."""
    if options.base_model or options.base:
        raise UserError(f"{run.name} is a reward model, and its base has no head to score with; take the base out")
    if options.engine == "vllm":
        raise UserError(f"{run.name} is a reward model, which --engine vllm does not take; use transformers")
    problems = [text for suite in options.suites or () if suite not in options.skip and (text := no_replies(suite))]
    if problems:
        raise UserError(*(f"{run.name}: {text}" for text in problems))


def tuned_of(run: Run, recipe: Recipe, output: Path) -> Model:
    """A finished run's model. An adapter is taken on its own base, whatever stands beside it."""
    under = bundled.located(recipe.model.path) if recipe.tuning.type == "lora" else None
    about, revision = about_run(run, recipe), recipe.model.revision
    return Model(name="tuned", path=str(run.model), base=under, output=output, run=about, revision=revision)


def base_of(run: Run, recipe: Recipe, output: Path) -> Model:
    """The model that a run began with."""
    return Model(
        name="base",
        path=bundled.located(recipe.model.path),
        output=output,
        run=about_run(run, recipe) | {"tuning": "none"},
        revision=recipe.model.revision,
        tokenizer=_tokenizer(run, recipe),
    )


def _tokenizer(run: Run, recipe: Recipe) -> Path | None:
    """The tokenizer of a base whose recipe has one apart from it, as the preparation left it; `model/` has its own."""
    return run.path / "data" / "tokenizer" if recipe.model.tokenizer else None


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    try:
        with claim(run.path / "eval"):
            remove_temporaries(run.path / "eval")
            yield
    except Claimed as error:
        raise UserError(f"{run.name} is being evaluated: {error}; wait for it, or stop it") from None


def evaluate_checkpoint(run: Run, model: Path, output: Path, say: Callable[[str], None]) -> None:
    """Score a checkpoint of a run that goes on, exported to `model`; as the finished run, but without its base.

    Raises:
        UserError, Failure: as `evaluate_run`.
    """
    recipe, options = run.recipe().recipe, EvalOptions()
    models = [replace(tuned_of(run, recipe, output), path=str(model))]
    run_workers(run_spec(run, recipe, options, models, say), output, run.mark("eval"), say, recipe.eval.devices)


def check_suites(run: Run, say: Callable[[str], None]) -> None:
    """Read the data of the recipe's suites before hours of training, where it is not the run's own rows.

    Raises:
        UserError: a suite has no data, or it is malformed.
    """
    recipe, options, output = run.recipe().recipe, EvalOptions(), run.path / "eval"
    if set(recipe.eval.suites) <= set(ROW_SUITES) - set(recipe.eval.data):
        return
    models = [base_of(run, recipe, output)]
    run_workers(run_spec(run, recipe, options, models, say), output, run.mark("eval"), say, check=True)


def about_run(run: Run, recipe: Recipe) -> dict[str, str]:
    return {"run": run.name, "backend": recipe.backend, "method": recipe.method, "tuning": recipe.tuning.type}


def run_spec(
    run: Run, recipe: Recipe, options: EvalOptions, models: Sequence[Model], say: Callable[[str], None]
) -> Spec:
    judged = recipe.eval
    usual = OF_SCORES if METHODS[recipe.method].scores else "perplexity"
    wanted = [s for s in (options.suites or judged.suites or (usual,)) if s not in options.skip]
    data = {**judged.data, **(options.data or {})}
    left_out = {s: text for s in wanted if s not in data and (text := lacking(s, recipe.method))}
    for suite, text in left_out.items():
        say(f"{suite} is left out: {text}; it can have rows of its own as eval.data.{suite}")
    if not set(wanted) - set(left_out):
        raise UserError(f"{run.name}: no suite is left to score", *(f"{s}: {text}" for s, text in left_out.items()))
    _check_options(options, set(wanted) - set(left_out))
    for suite in set(ROW_SUITES) & set(data) & set(wanted):
        data[suite] = str(canonical(Path(data[suite]), models[0].output / "rows" / f"{suite}.jsonl"))
    return Spec(
        models=tuple(models),
        suites=tuple(s for s in wanted if s not in left_out),
        data=data,
        rows=_existing(run.path / "data" / "validation.jsonl"),
        test_prompts=_existing(run.path / "data" / "test_prompts.json"),
        max_length=options.max_length or recipe.data.max_length,
        train_on=recipe.data.train_on,
        chat_template=recipe.model.chat_template,
        chat_template_kwargs=recipe.model.chat_template_kwargs,
        thinking=options.thinking or judged.thinking,
        trust_remote_code=recipe.model.trust_remote_code,
        max_samples=options.max_samples or judged.max_samples,
        max_generation_samples=options.max_generation_samples,
        max_new_tokens=options.max_new_tokens or judged.max_new_tokens,
        max_thought_tokens=options.max_thought_tokens or judged.max_thought_tokens,
        engine=options.engine or judged.engine,
        scorer=options.scorer or judged.scorer,
        subsets=options.subsets or judged.longbench_subsets,
        judge=options.judge or _judge(recipe),
        measures=judged.measures,
        lm_eval=_lm_eval(recipe),
        allow_code=options.allow_code or judged.allow_code,
    )


def _lm_eval(recipe: Recipe) -> LmEval:
    """The recipe's settings; the system prompt of its rows, where all have the same, is that of its questions too."""
    how = recipe.eval.lm_eval
    common = {source.system for source in recipe.data.train}
    own = common.pop() if len(common) == 1 else None
    settings = from_json(LmEval, to_json(how))
    return replace(settings, system=(own if how.system is None else how.system) or None)


def _check_options(options: EvalOptions, suites: Collection[str]) -> None:
    """Raise UserError for an option of suites none of which is scored."""
    asked = (
        ("--judge-url", options.judge, (JUDGED,)),
        ("--scorer", options.scorer, SCORED),
        ("--subsets", options.subsets, ("longbench",)),
        # What a task of lm-eval generates, it alone knows.
        ("--thinking", options.thinking, (*GENERATING, LM_EVAL)),
        ("--max-new-tokens", options.max_new_tokens, ("generation", "qmsum", "reference")),
        ("--max-thought-tokens", options.max_thought_tokens, GENERATING),
        ("--allow-code", options.allow_code, (LM_EVAL,)),
        ("--max-generation-samples", options.max_generation_samples, (*GENERATING, LM_EVAL)),
    )
    kinds = {LM_EVAL if suite.startswith(LM_EVAL) else suite for suite in suites}
    for option, value, allowed in asked:
        if value and not kinds & set(allowed):
            text = f"is of the suite{'s' * (len(allowed) > 1)} {', '.join(allowed)}; asked: {', '.join(sorted(suites))}"
            raise UserError(f"{option}: {text}; add one to --suites, or take the option out")


def _judge(recipe: Recipe) -> Judge | None:
    judge = recipe.eval.judge
    if not judge.base_url or not judge.model:
        return None
    return Judge(base_url=judge.base_url, model=judge.model, key_env=judge.key_env)


def evaluate_model(path: str, rows: Path | None, options: EvalOptions, say: Callable[[str], None]) -> Results:
    """Score any model directory (or bundled model) on a file of rows."""
    _check_options(options, options.suites or ("perplexity",))
    output = (options.output or Path("eval-results")).resolve()
    base = _located(options.base_model, say) if options.base_model else None
    model = Model(name="model", path=_located(path, say), base=base, output=output)
    spec = Spec(
        models=(model,),
        suites=options.suites or ("perplexity",),
        data=options.data or {},
        rows=str(canonical(rows, output / "rows.jsonl")) if rows else None,
        max_length=options.max_length or LONGEST,
        chat_template=options.chat_template,
        chat_template_kwargs=options.chat_template_kwargs,
        thinking=options.thinking or "auto",
        max_samples=options.max_samples,
        max_generation_samples=options.max_generation_samples,
        max_new_tokens=options.max_new_tokens or Spec.max_new_tokens,
        max_thought_tokens=options.max_thought_tokens or 0,
        engine=options.engine or "transformers",
        scorer=options.scorer or "rougeL",
        subsets=options.subsets,
        judge=options.judge,
        allow_code=options.allow_code,
    )
    with process.signals_raise():
        earlier = earlier_results(model, say)
        run_workers(spec, output, f"eval:{output}", say)
        return with_earlier(model, earlier, say)


def _located(path: str, say: Callable[[str], None]) -> str:
    if path.startswith("bundled:"):
        return str(bundled.ensure(environments.ensure(environment("eval", "cpu"), say), say))
    if Path(path).is_dir():
        return str(Path(path).resolve())
    if path.startswith((".", "/", "~")):
        raise UserError(f"--model {path}: no such directory")
    return path


def _existing(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def results_table(results: Mapping[str, Results]) -> str:
    """Metrics down, models across, each with its 95 % interval and n."""
    from eval.report.tables import summary

    return table(summary(results))
