"""Replies beside reference answers: quality, style and usefulness by plain measures (see eval/metrics/reference.py).

Where the specification names a judge (eval/suites/judge.py), it is asked about every reply as well.

Example prompt: {"prompt": [{"role": "user", "content": "What is 5 % of 300?"}], "reference": "15", "held_out": true}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from eval.encode import Text
from eval.engines.cache import Answer, AnswerCache
from eval.hashes import file_hash
from eval.metrics.reference import coverage, numbers, style, usefulness
from eval.metrics.similarity import DEFAULT, scorer, trigram_cosine, weights_of
from eval.spec import Spec
from eval.statistics import Measure, mean
from eval.suites import Loaded, Record, Sample, Values, answered, generation
from eval.suites.judge import check, verdicts
from recipes import rewards
from recipes.errors import UserError
from recipes.rouge import rouge_l
from recipes.suites import REFERENCE_METRICS
from recipes.types import OwnMeasure, Reward

OWN = "own."  # before the names of the user's own measures in a record, which has `output` and `error` as well
# Each of a reply and its reference, and what it is; a new one is a function in eval/metrics and a line here.
METRICS: dict[str, tuple[Callable[[str, str], float | None], str]] = {
    "rougeL": (rouge_l, "F1 of the longest common subsequence of words (Chinese: characters)"),
    "style": (style, "mean min/max of length, sentence length, figures, lists, marks"),
    "coverage": (coverage, "share of the reference's content words"),
    "numbers": (numbers, "share of the reference's figures with sign and magnitude; answers with figures only"),
}


def load(spec: Spec, text: Text, max_positions: int) -> Loaded:
    found = generation.asked(spec, text, "reference")
    samples = [sample for sample in found.samples if sample.shown.get("reference")]
    if not samples:
        raise UserError(f"{found.data['path']}: reference: no prompt has a reference answer")
    if spec.scorer != DEFAULT:
        scorer(spec.scorer)
    if spec.judge:
        check(spec.judge)
    _functions(spec.measures)
    samples = [replace(sample, shown={**sample.shown, "scorer": spec.scorer}) for sample in samples]
    own = {"scorer": spec.scorer, "scorer_weights": weights_of(spec.scorer), "n": len(samples)}
    judged = {"judge": [spec.judge.model, spec.judge.base_url]} if spec.judge else {}
    return Loaded(
        samples=samples, data=found.data, settings={**found.settings, **own, **judged, **_told(spec.measures)}
    )


def _told(own: Sequence[OwnMeasure]) -> Record:
    """What tells measures of the user's own from others of the same names."""
    if not own:
        return {}
    files = {m.name: file_hash(Path(m.path.rpartition(":")[0])) for m in own if m.path}
    told = [[m.name, m.type, m.pattern, m.target, (m.path or "").rpartition(":")[2], files.get(m.name)] for m in own]
    return {"measures": told, "lower_is_better": [f"reference.{m.name}" for m in own if m.better == "lower"]}


def _functions(own: Sequence[OwnMeasure]) -> list[rewards.Named]:
    """The measures, ready to be called.

    Raises:
        UserError: a file that cannot be imported, or lacks the function.
    """
    asked = [Reward(type=m.type, weight=1.0, pattern=m.pattern, target=m.target, path=m.path) for m in own]
    try:
        return [replace(found, name=m.name) for m, found in zip(own, rewards.load(asked), strict=True)]
    except rewards.RewardError as error:
        raise UserError(f"eval.measures: {error}") from None


def record(sample: Sample, answers: list[Answer]) -> Record:
    output, reference = answers[0]["text"].strip(), sample.shown["reference"]
    name = sample.shown["scorer"]
    alike = trigram_cosine(output, reference) if name == DEFAULT else scorer(name)(output, [reference])[0]
    return {
        **sample.shown,
        "output": output,
        **{name: metric(output, reference) for name, (metric, _) in METRICS.items()},
        "similarity": alike,
        "usefulness": usefulness(output, reference, answers[0]["finished"]),
    }


def review(records: list[Record], spec: Spec, directory: Path) -> list[Record]:
    """The records with the user's own measures, and a judge's verdicts, which are kept in the model's directory."""
    functions = _functions(spec.measures)
    records = [record if "error" in record else {**record, **_measured(record, functions)} for record in records]
    if not spec.judge:
        return records
    good, _ = answered(records)
    cache = AnswerCache(directory / "cache" / "judge.jsonl", {"judge": spec.judge.model, "at": spec.judge.base_url})
    asked = [{"question": r["prompt"][-1]["content"], "reference": r["reference"], "answer": r["output"]} for r in good]
    found = dict(zip([r["id"] for r in good], verdicts(spec.judge, asked, cache, "reference: judge"), strict=True))
    about = {
        name: {"judge": v, "judge_score": v.get("score"), "judged_by": spec.judge.model} for name, v in found.items()
    }
    return [record | about.get(record["id"], {}) for record in records]


def _measured(record: Record, functions: Sequence[rewards.Named]) -> Record:
    """What each function says of a reply: a number under its name, or under `failed` why not."""
    row = {key: record[key] for key in ("prompt", "reference", "held_out")}
    found: Record = {"own": [function.name for function in functions]} if functions else {}
    for function in functions:
        try:
            found[OWN + function.name] = rewards.score([function], record["output"], record["reference"], row).total
        except rewards.RewardError as error:
            found["failed"] = {**found.get("failed", {}), function.name: str(error)}
    return found


def measures(records: list[Record], seed: int) -> dict[str, Measure]:
    good, failures = answered(records)
    used = next((r["scorer"] for r in good), DEFAULT)
    implementations = {name: implementation for name, (_, implementation) in METRICS.items()} | {
        "similarity": "cosine of character 3-grams" if used == DEFAULT else f"s = {used}",
        "usefulness": "coverage and figures, less repetition and cut-off",
    }
    found = {}
    for name, implementation in implementations.items():
        values = [r[name] for r in good if r[name] is not None]
        found[f"reference.{name}"] = mean(
            values, failures=failures, seed=seed, implementation=implementation, share=True
        )
    for name in next((r["own"] for r in good if "own" in r), []):
        values = [r[OWN + name] for r in good if OWN + name in r]
        lost, own = failures + len(good) - len(values), "a measure of the recipe's own (eval.measures)"
        share = set(values) <= {0.0, 1.0}
        found[f"reference.{name}"] = mean(values, failures=lost, seed=seed, implementation=own, share=share)
    judged = [r["judge"] for r in good if "judge" in r]
    if judged:
        scores = [verdict["score"] for verdict in judged if "score" in verdict]
        lost = failures + len(judged) - len(scores)
        judge = (
            f"judge {next(r['judged_by'] for r in good if 'judge' in r)}, 1 to 5 as 0 to 1, read beside no other figure"
        )
        found["reference.judge"] = mean(scores, failures=lost, seed=seed, implementation=judge, share=True)
    return found


def values(metric: str) -> Values | None:
    name = metric.partition(".")[2]
    key = "judge_score" if name == "judge" else name if name in REFERENCE_METRICS else OWN + name
    return Values(key=key, better="higher", examples=name == "rougeL")
