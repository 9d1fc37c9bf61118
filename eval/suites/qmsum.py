"""QMSum: answers to queries about meetings, each transcript read once for all its queries.

Data: QMSum's own jsonl, {"meeting_transcripts": [{"speaker": "Ann", "content": "Hi."}], "general_query_list":
[{"query", "answer"}], "specific_query_list": […]}, or LongBench's rows, {"input", "context", "answers"}.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from eval.encode import Text
from eval.engines.cache import Answer
from eval.engines.requests import Generate
from eval.engines.sharing import share_prefixes
from eval.hashes import file_hash, json_hash
from eval.metrics.similarity import rouges, scripts, scripts_note
from eval.rows import Row, checked, half_a_character, keys_of, not_texts, read_lines, shown
from eval.spec import Spec
from eval.statistics import Measure, mean
from eval.suites import Loaded, Record, Sample, Values, answered
from eval.suites.longbench import from_hub
from eval.suites.longbench_prompts import definitions
from eval.suites.truncate import cut_middle, cut_note
from recipes.errors import UserError

LEAST = 2  # tokens of a transcript: one from each end
IMPLEMENTATION = "F1 of rouge_score (rouge-score-rs), Porter stemmer, best of the answers, plain mean"


@dataclass(frozen=True)
class Query:
    """One question about one meeting."""

    id: str
    transcript: str
    query: str
    answers: list[str]


def load(spec: Spec, text: Text, max_positions: int) -> Loaded:
    given = spec.data.get("qmsum")
    source = Path(given) if given else from_hub("qmsum: no data is given (QMSum's test.jsonl, LongBench's qmsum.jsonl)")
    path = source if given else zipfile.Path(source, "data/qmsum.jsonl")
    rows = checked(path, read_lines(path), _problem)
    queries = [query for n, row in enumerate(rows) for query in _queries(row, n)]
    queries = queries[: spec.max_generation_samples or spec.max_samples]
    if not queries:
        raise UserError(f"{path}: qmsum: no queries")
    room = text.room(max_positions, spec.max_new_tokens, spec.max_length)
    problems = {q.id: problem for q in queries if (problem := _unaskable(q, text, room))}
    broken = [Sample(id=q.id, shown=_shown(q), problem=problems[q.id]) for q in queries if q.id in problems]
    samples = broken + _samples([q for q in queries if q.id not in problems], text, room, spec.max_new_tokens)
    settings = {
        "prompt": "LongBench qmsum", "decoding": "greedy", "max_new_tokens": spec.max_new_tokens,
        "max_prompt_tokens": room, "truncation": "middle of the transcript", "chat": text.has_template,
        "n": len(samples),
    }  # fmt: skip
    used = json_hash([json_hash(astuple(query)) for query in queries])
    data = {"path": str(path), "hash": file_hash(source), "used": used}
    notes = (*cut_note(samples, room, spec.max_length), *scripts_note([q.answers for q in queries]))
    return Loaded(samples=samples, data=data, settings=settings, notes=notes)


def _problem(row: Row) -> str:
    """What is wrong with a row of either kind; "" where nothing is."""
    if "meeting_transcripts" in row:
        return _meeting_problem(row)
    if not {"input", "context", "answers"} <= row.keys():
        return f"qmsum: expected meeting_transcripts, or input, context and answers; got {keys_of(row)}"
    for field in ("input", "context"):
        if not isinstance(row[field], str):
            return f"qmsum: `{field}`: expected a text, got {shown(row[field])}"
    wrong = not_texts("answers", row["answers"]) or ("" if row["answers"] else "`answers`: expected one at least")
    return wrong and f"qmsum: {wrong}"


def _meeting_problem(row: Row) -> str:
    parts = {
        "meeting_transcripts": ("speaker", "content"),
        "general_query_list": ("query", "answer"),
        "specific_query_list": ("query", "answer"),
    }
    for name, fields in parts.items():
        listed = row.get(name) if name == "meeting_transcripts" else row.get(name) or []
        if not isinstance(listed, list):
            return f"qmsum: `{name}`: expected a list, got {shown(listed)}"
        for item in listed:
            if not isinstance(item, dict) or not all(isinstance(item.get(field), str) for field in fields):
                return f"qmsum: `{name}`: expected {' and '.join(fields)} as texts, got {shown(item)}"
    return ""


def _queries(row: Row, number: int) -> Iterator[Query]:
    if "meeting_transcripts" not in row:
        yield Query(str(row.get("_id", number)), row["context"], row["input"], row["answers"])
        return
    lines = [f"{turn['speaker']}: {turn['content']}" for turn in row["meeting_transcripts"]]
    for kind in ("general", "specific"):
        for n, asked in enumerate(row.get(f"{kind}_query_list") or []):
            yield Query(f"{number}.{kind}.{n}", "\n".join(lines), asked["query"], [asked["answer"]])


def _shown(query: Query) -> Row:
    return {"query": query.query, "answers": query.answers}


def _template() -> str:
    return definitions()[0]["qmsum"]


def _around(query: Query, text: Text) -> int:
    """Tokens of a prompt without its transcript."""
    return len(text.ids(_template().format(context="", input=query.query)))


def _unaskable(query: Query, text: Text, room: int) -> str:
    """Why a query cannot be asked; "" where it can."""
    if problem := half_a_character([query.transcript, query.query, query.answers]):
        return problem
    if room - _around(query, text) < LEAST:
        return f"its question leaves no room for the transcript within {room} tokens"
    return ""


def _samples(queries: list[Query], text: Text, room: int, max_new_tokens: int) -> list[Sample]:
    """The transcript is cut alike for all queries of a meeting, or they could not share what was read."""
    template = _template()
    around: dict[str, int] = {}
    for q in queries:
        around[q.transcript] = max(around.get(q.transcript, 0), _around(q, text))
    cut = {transcript: cut_middle(text, transcript, room - length) for transcript, length in around.items()}
    requests, samples = [], []
    for q in queries:
        transcript, truncated = cut[q.transcript]
        ids = text.prompt_ids(template.format(context=transcript, input=q.query), chat=True)
        requests.append(Generate(ids=ids, max_new_tokens=max_new_tokens))
        shown = {**_shown(q), "truncated": truncated, "prompt_tokens": len(ids)}
        samples.append(Sample(id=q.id, shown=shown))
    shared = share_prefixes(requests, [q.transcript for q in queries])
    return [replace(sample, requests=(request,)) for sample, request in zip(samples, shared, strict=True)]


def record(sample: Sample, answers: list[Answer]) -> Record:
    output = answers[0]["text"]
    scores = [rouges(output, reference, stem=True) for reference in sample.shown["answers"]]
    best = {name: max(s[name] for s in scores) for name in scores[0]}
    return {**sample.shown, "output": output, **best}


def measures(records: list[Record], seed: int) -> dict[str, Measure]:
    good, failures = answered(records)
    used = IMPLEMENTATION + scripts(answer for r in records for answer in r.get("answers", ()))
    return {
        f"qmsum.{name}": mean(
            [r[name] for r in good], failures=failures, seed=seed, implementation=f"{name}: {used}", share=True
        )
        for name in ("rougeL", "rouge1", "rouge2")
    }


VALUES = {
    "qmsum.rougeL": Values(key="rougeL", better="higher", examples=True),
    "qmsum.rouge1": Values(key="rouge1", better="higher"),
    "qmsum.rouge2": Values(key="rouge2", better="higher"),
}
values = VALUES.get
