"""Scores models on suites of lm-evaluation-harness, inside the environment that holds it.

Usage: python -m eval.suites.lm_eval.worker SPEC.json [--check] [--add]

As eval.worker: for each model results.json and a file of records a suite; exit code 2 and a line a problem where the
user can mend it. With --check tasks and their data are read, and no model. With --add its numbers go into the
results.json that eval.worker has just left.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from eval.encode import load_text
from eval.engines import ENGINES
from eval.engines.cache import AnswerCache
from eval.engines.directory import locate
from eval.engines.progress import duration, say
from eval.hashes import file_hash, json_hash
from eval.metrics.thoughts import opened
from eval.report.results import (
    ModelProvenance,
    Provenance,
    Results,
    SuiteProvenance,
    read_results,
    write_results,
)
from eval.spec import Model, Spec, read_spec
from eval.statistics import Measure
from eval.suites import Record
from eval.suites.lm_eval import records, tasks
from eval.suites.lm_eval.answers import keep, without_thoughts
from eval.suites.lm_eval.models import loaded
from eval.worker import quiet, versions
from recipes.errors import UserError
from recipes.suites import LM_EVAL

BOOTSTRAPS = 1000  # for the standard errors that lm-eval draws itself; those of means are by formula


def main(arguments: list[str]) -> int:
    try:
        spec = read_spec(Path(arguments[0]), (LM_EVAL,), tuple(ENGINES))
        _run(spec, check="--check" in arguments, add="--add" in arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(spec: Spec, *, check: bool, add: bool) -> None:
    quiet()
    os.environ["DISABLE_MULTIPROC"] = "1"  # lm-eval's bootstrap would fork a process that holds a model
    if spec.allow_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # which the measures of HumanEval and MBPP ask for
    found = tasks.load(spec)
    if check:
        return
    for model in spec.models:
        _score(model, found, spec, add=add)


def _score(model: Model, found: Mapping[str, tasks.Loaded], spec: Spec, *, add: bool) -> None:
    files = locate(model)
    text = load_text(files.tokenizer, spec)
    say(f"{model.name}: loading {files.directory}")
    about = ModelProvenance(
        path=str(files.directory), base=str(files.base) if files.base else None, hash=files.hash(), **text.identity()
    )
    chat = spec.lm_eval.chat_template and text.has_template
    if spec.lm_eval.chat_template and not chat:
        say(f"{model.name}: it has no chat template: asked as plain text")
    metrics: dict[str, Measure] = {}
    suites: dict[str, SuiteProvenance] = {}
    kept: dict[str, list[Record]] = {}
    with loaded(model, files, spec, text) as (lm, engine):
        by = {"lm_eval": metadata.version("lm_eval"), "think_end_token": spec.lm_eval.think_end_token}
        identity = {"hash": about.hash, "tokenizer": about.tokenizer, "template": about.template, **engine, **by}
        prompt = load_text(files.tokenizer, spec.asking).chat_ids([{"role": "user", "content": "?"}]) if chat else []
        without_thoughts(lm, opened(text.tokenizer, prompt))
        keep(lm, AnswerCache(model.output / "cache" / "lm_eval.jsonl", identity), model.name)
        for name, what in found.items():
            start = time.monotonic()
            outcome = _asked(lm, what, spec, chat=chat)
            told = records.told(name, outcome, metadata.version("lm_eval"), spec.seed)
            kept[name] = told.records
            metrics |= told.measures
            seconds = time.monotonic() - start
            settings = {**_settings(outcome, spec, chat=chat), "lower_is_better": list(told.lower)}
            suites[name] = SuiteProvenance(
                data=_data(name, what, outcome, told), settings=settings, seconds=round(seconds, 3), engine=engine
            )
            say(f"{model.name}: {name}: {len(told.records)} samples in {duration(seconds)}")
            if count := sum(records.UNFINISHED in record for record in told.records):
                say(f"{model.name}: {name}: {count} replies counted as wrong: unfinished_thought")
            for reason, count in what.ended.most_common():
                say(f"{model.name}: {name}: {count} programs counted as wrong: {reason}")
            what.ended.clear()
    new = Results(
        metrics=metrics,
        provenance=Provenance(
            name=model.name,
            model=about,
            engine=engine,
            seed=spec.seed,
            suites=suites,
            versions=versions(),
            run=model.run,
        ),
    )
    write_results(model.output, _added(read_results(model.output), new) if add else new, kept)


def _added(own: Results, new: Results) -> Results:
    before, after = own.provenance, new.provenance
    both = replace(
        before, suites={**before.suites, **after.suites}, versions={**after.versions, **before.versions}
    )  # the engine's identity is that of our own suites; each of lm-eval's says its own
    return Results(metrics={**own.metrics, **new.metrics}, provenance=both)


def _asked(lm: Any, what: tasks.Loaded, spec: Spec, *, chat: bool) -> records.Outcome:
    """What lm-eval says of a suite's tasks: its own evaluation, with its own seeds."""
    import lm_eval

    how = spec.lm_eval
    generates = any(task.OUTPUT_TYPE == "generate_until" for task in what.tasks.values())
    if how.num_fewshot:
        for name in [name for name, task in what.tasks.items() if task.get_config("num_fewshot") == 0]:
            say(f"{name}: asked without examples: the task itself sets num_fewshot: 0")
    outcome = lm_eval.simple_evaluate(
        model=lm,
        tasks=what.items,
        num_fewshot=how.num_fewshot,
        batch_size=how.batch,
        limit=(generates and spec.max_generation_samples) or spec.max_samples,
        gen_kwargs=dict(how.generation) or None,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        system_instruction=how.system,
        log_samples=True,
        confirm_run_unsafe_code=spec.allow_code,
        bootstrap_iters=BOOTSTRAPS,
        task_manager=what.manager,
    )
    return dict(outcome or {})


def _data(name: str, what: tasks.Loaded, outcome: records.Outcome, told: records.Told) -> Mapping[str, Any]:
    sets = {task: _data_set(outcome["configs"][task]) for task in outcome["samples"]}
    return {
        "path": what.path or f"{name} of lm-eval",
        "hash": file_hash(Path(what.path)) if what.path else None,
        "data_set": _common(sets),
        "used": json_hash([[r["id"], r["doc_hash"], r["target_hash"]] for r in told.records]),
    }


def _data_set(config: Mapping[str, Any]) -> str:
    return " ".join(str(config[key]) for key in ("dataset_path", "dataset_name") if config.get(key))


def _settings(outcome: records.Outcome, spec: Spec, *, chat: bool) -> dict[str, Any]:
    """What else makes the numbers, told for each task where tasks differ in it."""
    names = list(outcome["samples"])
    generation = {n: c for n in names if (c := outcome["configs"][n].get("generation_kwargs"))}
    prompts = [sample["prompt_hash"] for n in names for sample in outcome["samples"][n]]
    return {
        "lm_eval": metadata.version("lm_eval"),
        "version": _common({n: outcome["versions"].get(n) for n in names}),
        "num_fewshot": _common({n: outcome["n-shot"].get(n) for n in names}),
        "generation": records.plain(_common(generation)),
        "chat_template": chat,
        "think_end_token": spec.lm_eval.think_end_token,
        "prompts": json_hash(prompts),
        "n": sum(outcome["n-samples"][n]["effective"] for n in names),
    }


def _common(by_task: Mapping[str, Any]) -> Any:
    """The one value that all tasks share, or the values by task."""
    values = list(by_task.values())
    return values[0] if values and all(value == values[0] for value in values) else dict(by_task)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
