"""Replies beside reference answers: quality, style and usefulness by plain measures (see eval/metrics/reference.py).

Example prompt: {"prompt": [{"role": "user", "content": "What is 5 % of 300?"}], "reference": "15", "held_out": true}
"""

from __future__ import annotations

from dataclasses import replace

from eval.cache import Answer
from eval.encode import Text
from eval.metrics.reference import coverage, numbers, style, usefulness
from eval.metrics.similarity import DEFAULT, scorer, trigram_cosine, weights_of, words_f1
from eval.spec import Spec
from eval.statistics import Measure, mean
from eval.suites import Loaded, Record, Sample, answered, generation
from recipes.errors import UserError

IMPLEMENTATIONS = {
    "rougeL": "F1 of the longest common subsequence of words (Chinese: characters)",
    "similarity": "cosine of character 3-grams",
    "style": "mean min/max of length, sentence length, figures, lists, marks",
    "coverage": "share of the reference's content words",
    "numbers": "share of the reference's figures; answers with figures only",
    "usefulness": "coverage and figures, less repetition and cut-off",
}


def load(spec: Spec, text: Text, max_positions: int) -> Loaded:
    found = generation.load(spec, text, max_positions)
    samples = [sample for sample in found.samples if sample.shown.get("reference")]
    if not samples:
        raise UserError(f"{found.data['path']}: reference: no prompt has a reference answer")
    if spec.scorer != DEFAULT:
        scorer(spec.scorer)
    samples = [replace(sample, shown=sample.shown | {"scorer": spec.scorer}) for sample in samples]
    own = {"scorer": spec.scorer, "scorer_weights": weights_of(spec.scorer), "n": len(samples)}
    return Loaded(samples=samples, data=found.data, settings=found.settings | own)


def record(sample: Sample, answers: list[Answer]) -> Record:
    output, reference = answers[0]["text"].strip(), sample.shown["reference"]
    name = sample.shown["scorer"]
    alike = trigram_cosine(output, reference) if name == DEFAULT else scorer(name)(output, [reference])[0]
    return {
        **sample.shown,
        "output": output,
        "rougeL": words_f1(output, reference),
        "similarity": alike,
        "style": style(output, reference),
        "coverage": coverage(output, reference),
        "numbers": numbers(output, reference),
        "usefulness": usefulness(output, reference, answers[0]["finished"]),
    }


def measures(records: list[Record], seed: int) -> dict[str, Measure]:
    good, failures = answered(records)
    found = {}
    for name, implementation in IMPLEMENTATIONS.items():
        used = good[0]["scorer"] if good and name == "similarity" and good[0]["scorer"] != DEFAULT else ""
        values = [r[name] for r in good if r[name] is not None]
        found[f"reference.{name}"] = mean(
            values, failures=failures, seed=seed, implementation=f"s = {used}" if used else implementation
        )
    return found
