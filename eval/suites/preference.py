"""Whether a model prefers the chosen reply: by its mean loss per reply token, or a reward model by its own score.

Example row: {"prompt": [{"role": "user", "content": "Is cash risk-free?"}],
"chosen": [{"role": "assistant", "content": "No: inflation."}], "rejected": [{"role": "assistant", "content": "Yes."}]}
"""

from __future__ import annotations

from pathlib import Path

from eval.encode import BadRow, Encoded, Text
from eval.engines.batching import common_prefix
from eval.engines.cache import Answer
from eval.engines.requests import Score, Value
from eval.hashes import file_hash, json_hash
from eval.rows import rows_file, rows_of
from eval.spec import Spec
from eval.statistics import Measure, count, mean
from eval.suites import Loaded, Record, Sample, Values, answered
from eval.suites.truncate import cut_note
from recipes.errors import UserError

IMPLEMENTATION = "mean nll per reply token; correct if chosen < rejected"
BY_SCORE = "reward model's score at the last token; correct if chosen > rejected"
# Measures, and the keys of their values.
LOSSES = {"avg_chosen_loss": "chosen_loss", "avg_rejected_loss": "rejected_loss", "margin": "margin"}
SCORES = {"avg_chosen_score": "chosen_score", "avg_rejected_score": "rejected_score", "score_margin": "score_margin"}
SHARED_FROM = 256  # prompt tokens from which computing the prompt once pays for the smaller batches


def load(spec: Spec, text: Text, max_positions: int) -> Loaded:
    file = rows_file(spec, "preference")
    rows = rows_of(file, "preference", spec.max_samples)
    pairs = [(n, row) for n, row in enumerate(rows) if "chosen" in row and "rejected" in row]
    if not pairs:
        raise UserError(f"{file}: preference: no row has chosen and rejected")
    both = [[*row["prompt"], *row[reply]] for _, row in pairs for reply in ("chosen", "rejected")]
    encoded = iter(text.encoder.encode(both, last_only=True))
    limit = min(spec.max_length, max_positions)
    samples = [_sample(str(n), next(encoded), next(encoded), limit, spec.reward) for n, _ in pairs]
    data = {"path": file, "hash": file_hash(Path(str(file))), "used": json_hash(rows)}
    notes = cut_note(samples, limit, spec.max_length)
    settings = {"max_length": limit if notes else spec.max_length, "n": len(samples)}
    return Loaded(samples=samples, data=data, settings=settings, notes=notes)


def _sample(name: str, chosen: Encoded | BadRow, rejected: Encoded | BadRow, max_length: int, reward: bool) -> Sample:
    if isinstance(chosen, BadRow) or isinstance(rejected, BadRow):
        return Sample(id=name, problem=str(chosen if isinstance(chosen, BadRow) else rejected))
    cut = [part.cut(max_length) for part in (chosen, rejected)]
    if not all(any(label >= 0 for label in part.labels[1:]) for part in cut):
        return Sample(id=name, problem=f"no reply token within {max_length} tokens")
    longest = max(len(chosen.ids), len(rejected.ids))
    shown = {"truncated": longest > max_length}
    if reward:
        return Sample(id=name, requests=tuple(Value(ids=part.ids) for part in cut), shown=shown)
    prefix = common_prefix([part.ids for part in cut])
    shared = (prefix,) if prefix >= SHARED_FROM else ()
    requests = tuple(Score(ids=part.ids, labels=part.labels, shared=shared) for part in cut)
    return Sample(id=name, requests=requests, shown=shown)


def record(sample: Sample, answers: list[Answer]) -> Record:
    if "value" in answers[0]:
        higher, lower = (answer["value"] for answer in answers)
        return {
            **sample.shown,
            "chosen_score": higher,
            "rejected_score": lower,
            "score_margin": higher - lower,
            "correct": higher > lower,
        }
    chosen, rejected = (answer["nll"] / answer["tokens"] for answer in answers)
    return {
        **sample.shown,
        "chosen_loss": chosen,
        "rejected_loss": rejected,
        "margin": rejected - chosen,
        "correct": chosen < rejected,
    }


def measures(records: list[Record], seed: int) -> dict[str, Measure]:
    good, failures = answered(records)
    scored = bool(good) and "chosen_score" in good[0]
    how, named = (BY_SCORE, SCORES) if scored else (IMPLEMENTATION, LOSSES)
    columns = {name: [float(r[key]) for r in good] for name, key in {"accuracy": "correct", **named}.items()}
    counts = {"correct": sum(r["correct"] for r in good), "total": len(good)}
    means = {
        name: mean(values, failures=failures, seed=seed, implementation=how, share=name == "accuracy")
        for name, values in columns.items()
    }
    bare = {name: count(value, n=len(good), failures=failures, implementation=how) for name, value in counts.items()}
    return {f"preference.{name}": measure for name, measure in (means | bare).items()}


VALUES = {
    "preference.accuracy": Values(key="correct", better="higher"),
    "preference.avg_chosen_loss": Values(key="chosen_loss", better="lower"),
    "preference.avg_rejected_loss": Values(key="rejected_loss", better="neither"),
    "preference.margin": Values(key="margin", better="higher", examples=True),
    "preference.avg_chosen_score": Values(key="chosen_score", better="neither"),
    "preference.avg_rejected_score": Values(key="rejected_score", better="neither"),
    "preference.score_margin": Values(key="score_margin", better="higher", examples=True),
}
values = VALUES.get
