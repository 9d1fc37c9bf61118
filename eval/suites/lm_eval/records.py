"""What lm-eval answered as our records and measures: its own numbers, with our intervals where its samples give them.

A number is lm-eval's to the last digit. Where it is a mean, a ratio or a perplexity of the samples that were kept, its
interval is ours and models are compared on it sample by sample; an F1, a BLEU or a mean of means has lm-eval's own
standard error, and no paired test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eval.statistics import Z95, Measure, mean, perplexity, ratio
from eval.suites import Record
from eval.suites.lm_eval import OF_TASK, PER, fields

Outcome = Mapping[str, Any]  # what lm_eval.simple_evaluate returns, of one suite
SHOWN = 200  # characters of a prompt's end
UNFINISHED = "unfinished_thought"


class Unfinished(str):
    """What a reply is whose thought never ended: no answer."""


@dataclass(frozen=True)
class Series:
    """One metric of one task: its sample's values by id, and what its sum is divided by (of losses)."""

    values: Mapping[str, float]
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """The records and measures of a suite, and which of its metrics are better when lower."""

    records: list[Record]
    measures: dict[str, Measure]
    lower: tuple[str, ...]


def told(suite: str, outcome: Outcome, version: str, seed: int) -> Told:
    """The records and measures of a suite, from lm-eval's outcome with its samples."""
    groups: Mapping[str, Sequence[str]] = outcome.get("group_subtasks") or {}
    tasks = list(outcome["samples"])
    records = {task: _records(task, outcome["samples"][task], _type_of(task, outcome)) for task in tasks}
    top = next((g for g in groups if not any(g in below for below in groups.values())), "")
    top = top or (tasks[0] if len(tasks) == 1 else "")
    measures: dict[str, Measure] = {}
    kept: dict[tuple[str, str], Series] = {}  # of each task and metric whose number its samples give
    for task in tasks:
        for key, value, error in _numbers(outcome["results"][task]):
            about = f"lm-eval {version} {key}, version {outcome['versions'].get(task)} of {task}"
            found = _values(key, outcome["samples"][task], task)
            measure = _measure(key, found, value, about, seed) if found else None
            if measure and found:
                kept[task, key] = found
                _keep(records[task], key, found, "" if task == top else OF_TASK)
            count = sum(key in _keys(sample) for sample in outcome["samples"][task])
            measures[metric_id(suite, task, top, key)] = measure or _borrowed(value, error, count, about)
    for group in groups:
        for key, value, error in _numbers(outcome["results"].get(group, {})):
            below = [task for task in _leaves(group, groups) if task in records]
            about = f"lm-eval {version} {key} of {len(below)} tasks of {group}"
            found = _pooled([kept.get((task, key)) for task in below])
            measure = _measure(key, found, value, about, seed) if found else None
            if measure and found and group == top:
                _keep({n: r for task in below for n, r in records[task].items()}, key, found, "")
            count = sum(len(records[task]) for task in below)
            measures[metric_id(suite, group, top, key)] = measure or _borrowed(value, error, count, about)
    return Told([r for task in tasks for r in records[task].values()], measures, _lower(suite, outcome, top, measures))


def metric_id(suite: str, name: str, top: str, key: str) -> str:
    """`lm_eval:gsm8k.exact_match,strict-match`, or `lm_eval:mmlu:mmlu_anatomy.acc` of a task within a group."""
    return f"{suite}.{key}" if name == top else f"{suite}:{plain_name(name)}.{key}"


def plain_name(text: str) -> str:
    """A task's name without the colon that ends it in a metric id."""
    return text.replace(":", "_")


def _key(metric: str, of_filter: str) -> str:
    """lm-eval's own `metric,filter`, less a filter `none`, and with no dot or colon in it."""
    whole = metric if of_filter == "none" else f"{metric},{of_filter}"
    return re.sub(r"[.:]", "_", whole)


def _numbers(results: Mapping[str, Any]) -> Iterable[tuple[str, float | None, float | None]]:
    """Key, value and standard error of each metric in lm-eval's results of a task or group."""
    for name, value in results.items():
        metric, comma, of_filter = name.partition(",")
        if comma and not metric.endswith("_stderr"):
            yield _key(metric, of_filter), _number(value), _number(results.get(f"{metric}_stderr,{of_filter}"))


def _number(value: object) -> float | None:
    """A finite number, of Python or numpy, or None."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # "N/A", a list
        return None
    return found if math.isfinite(found) and not isinstance(value, str) else None


def _keys(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The sample's values by key: each metric that its filter's answers were scored by."""
    return {_key(metric, sample["filter"]): sample[metric] for metric in sample["metrics"]}


def _values(key: str, samples: Sequence[Mapping[str, Any]], task: str) -> Series | None:
    """A metric's values by sample id; of losses in nats and their weights. None where they are no numbers."""
    given = {_id(task, sample): found[key] for sample in samples if key in (found := _keys(sample))}
    name = key.partition(",")[0]
    if name in PER:
        pairs = {n: tuple(map(_number, v)) for n, v in given.items() if isinstance(v, (tuple, list)) and len(v) == 2}
        whole = {n: (-a, b) for n, (a, b) in pairs.items() if a is not None and b is not None}
        values, weights = ({n: pair[i] for n, pair in whole.items()} for i in (0, 1))
        return Series(values, weights) if given and len(whole) == len(given) else None
    numbers = {n: number for n, value in given.items() if (number := _number(value)) is not None}
    if not given or len(numbers) < len(given):
        return None
    return Series({n: -v for n, v in numbers.items()} if name == "perplexity" else numbers)


def _measure(key: str, found: Series, value: float | None, about: str, seed: int) -> Measure | None:
    """The number that these samples give; None where lm-eval's is another, made of them in another way."""
    name, values = key.partition(",")[0], list(found.values.values())
    if name in PER:
        weights = [found.weights[n] for n in found.values]
        in_bits = name == "bits_per_byte"
        scale, transform = (1 / math.log(2), None) if in_bits else (1.0, perplexity)
        made = ratio(values, weights, implementation=about, seed=seed, scale=scale, transform=transform)
    elif name == "perplexity":
        made = ratio(values, [1.0] * len(values), implementation=about, seed=seed, transform=perplexity)
    else:
        made = mean(values, implementation=about, seed=seed, share=all(0 <= v <= 1 for v in values))
    if value is None or made.value is None or not math.isclose(made.value, value, rel_tol=1e-9, abs_tol=1e-12):
        return None
    return replace(made, value=value)


def _borrowed(value: float | None, error: float | None, count: int, about: str) -> Measure:
    """lm-eval's number and its standard error, with the normal interval."""
    interval = None if value is None or error is None else (value - Z95 * error, value + Z95 * error)
    about += "; standard error lm-eval's, interval normal" if interval else ""
    return Measure(value=value, n=count, failures=0, se=error, ci95=interval, implementation=about)


def _pooled(parts: Sequence[Series | None]) -> Series | None:
    whole = [part for part in parts if part]
    if not whole or len(whole) < len(parts):
        return None
    return Series(
        {n: v for part in whole for n, v in part.values.items()}, {n: w for p in whole for n, w in p.weights.items()}
    )


def _keep(records: Mapping[str, Record], key: str, found: Series, prefix: str) -> None:
    """Put a metric's values, and their weights, into the records of a task."""
    weight, field_ = fields(key)
    for sample in found.values:
        records[sample][prefix + field_] = found.values[sample]
        if weight:
            records[sample][weight] = found.weights[sample]


def _leaves(group: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    below = [leaf for name in groups[group] for leaf in (_leaves(name, groups) if name in groups else [name])]
    return list(dict.fromkeys(below))


def _lower(suite: str, outcome: Outcome, top: str, measures: Mapping[str, Measure]) -> tuple[str, ...]:
    found = []
    for name, directions in (outcome.get("higher_is_better") or {}).items():
        for base in [base for base, higher in directions.items() if higher is False]:
            wanted = metric_id(suite, name, top, _key(base, "none"))
            found += [metric for metric in measures if metric.partition(",")[0] == wanted]
    return tuple(sorted(found))


def _type_of(task: str, outcome: Outcome) -> str:
    return str((outcome.get("configs") or {}).get(task, {}).get("output_type") or "")


def _id(task: str, sample: Mapping[str, Any]) -> str:
    return f"{task}/{sample['doc_id']}"


def _records(task: str, samples: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Record]:
    """One record a question, whatever number of filters its answer went through."""
    records: dict[str, Record] = {}
    for sample in samples:
        name = _id(task, sample)
        if name not in records:
            records[name] = {"id": name, "subset": plain_name(task), **_asked(sample, kind)}
            records[name] |= {"target": plain(sample["target"]), "doc": plain(sample["doc"]), "filtered": {}}
            records[name] |= {hash_: sample[hash_] for hash_ in ("doc_hash", "prompt_hash", "target_hash")}
        if kind == "generate_until":
            records[name]["filtered"][sample["filter"]] = plain(sample["filtered_resps"])
        for key, value in _keys(sample).items():
            if _number(value) is None:
                records[name][f"parts of {key}"] = plain(value)
    return records


def _asked(sample: Mapping[str, Any], kind: str) -> Record:
    """The prompt and what was answered: a reply, the choice of the greatest likelihood, or a log-likelihood."""
    arguments, answers = sample["arguments"], sample["resps"]
    prompt = str(arguments[0][0])
    question = prompt if len(prompt) <= SHOWN else "…" + prompt[-SHOWN:]
    asked: Record = {"prompt": prompt, "question": question}
    if kind == "generate_until":
        replies = [str(reply) for reply in answers[0]]
        asked |= {"output": replies[0], **({"outputs": replies} if len(replies) > 1 else {})}
        return asked | ({UNFINISHED: True} if any(isinstance(one, Unfinished) for one in answers[0]) else {})
    if kind == "loglikelihood_rolling":
        return {**asked, "loglikelihood": plain(answers[0][0])}
    choices = [
        {"text": str(argument[1]), "loglikelihood": plain(answer[0][0]), "greedy": bool(answer[0][1])}
        for argument, answer in zip(arguments, answers, strict=True)
    ]
    best = max(choices, key=lambda choice: choice["loglikelihood"])
    return {**asked, "output": best["text"] if len(choices) > 1 else "", "choices": choices}


def plain(value: Any) -> Any:
    """A JSON value: numpy's numbers as Python's, anything else that JSON has not as its text."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else str(value)
