"""LongBench and LongBench-E as officially defined: prompts, middle truncation, templates, stops, metrics.

Data: a directory of `<subset>.jsonl` (and `<subset>_e.jsonl`), one such file, or the official data.zip, which the hub
gives where there is none. Example row: {"input": "Who won?", "context": "…", "answers": ["Ann"], "all_classes": null,
"length": 5123}
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from eval.encode import Text
from eval.engines.cache import Answer
from eval.engines.requests import Generate
from eval.engines.sharing import share_prefixes
from eval.hashes import data_hash, json_hash
from eval.metrics.longbench import BUCKETS, SUBSETS, bucket, row_score
from eval.metrics.longbench_rows import row_problem
from eval.rows import Row, checked, half_a_character, read_lines
from eval.spec import Spec
from eval.statistics import Measure, mean
from eval.suites import Loaded, Record, Sample, Values, answered
from eval.suites.hub import fetched
from eval.suites.longbench_prompts import ARCHIVE, REPOSITORY, definitions
from eval.suites.longbench_prompts import prompt as asked
from eval.suites.truncate import cut_middle, cut_note
from recipes.errors import UserError
from recipes.longbench import subset_files

# https://github.com/THUDM/LongBench/blob/main/LongBench/pred.py: few-shot and code prompts go without a chat template.
NO_CHAT = frozenset({"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"})
USED = ("_id", "input", "context", "answers", "all_classes", "length")  # what of a row makes its sample and its score


def load(spec: Spec, text: Text, max_positions: int) -> Loaded:
    source = (
        Path(spec.data["longbench"])
        if spec.data.get("longbench")
        else from_hub("longbench: no data is given (its data.zip, or a directory of <subset>.jsonl)")
    )
    files = subset_files(source, spec.subsets)
    limit = spec.max_generation_samples or spec.max_samples
    samples: list[Sample] = []
    used = []
    for name, path in files.items():
        rows = _rows(name, path, limit)
        samples += _samples(name, rows, text, max_positions, spec)
        used.append([name, *(json_hash([row.get(key) for key in USED]) for row in rows)])
    settings = {
        "decoding": "greedy", "max_length": spec.max_length, "truncation": "middle", "chat": text.has_template,
        "cut_to": {name: _room(name, text, max_positions, spec) for name in _cut(samples)}, "subsets": list(files),
        "n": len(samples),
    }  # fmt: skip
    data = {"path": str(source), "hash": data_hash(source), "used": json_hash(used)}
    room = min(_room(name, text, max_positions, spec) for name in files)
    notes = cut_note(samples, room, spec.max_length)
    return Loaded(samples=samples, data=data, settings=settings, notes=notes)


def _room(name: str, text: Text, max_positions: int, spec: Spec) -> int:
    return text.room(max_positions, definitions()[1][name.removesuffix("_e")], spec.max_length)


def _cut(samples: Sequence[Sample]) -> list[str]:
    """The subsets of which a prompt was cut: what of it a model has read depends on its positions."""
    return list(dict.fromkeys(s.shown["subset"] for s in samples if s.shown.get("truncated")))


def from_hub(missing: str) -> Path:
    """The official data.zip."""
    from huggingface_hub import hf_hub_download

    failing = f"{missing}, and THUDM/LongBench could not be downloaded from the Hub"
    return fetched(lambda: hf_hub_download(REPOSITORY, ARCHIVE, repo_type="dataset"), failing)


def _rows(name: str, path: Path | zipfile.Path, limit: int | None) -> list[Row]:
    def problem(row: Row) -> str:
        text = row_problem(name, row, ("input", "context"), buckets=name.endswith("_e"))
        return text and f"longbench: {text}"

    rows = checked(path, read_lines(path, limit), problem)
    if not rows:
        raise UserError(f"{path}: longbench: no rows")
    return rows


def _samples(name: str, rows: list[Row], text: Text, max_positions: int, spec: Spec) -> list[Sample]:
    subset = name.removesuffix("_e")
    prompts, limits = definitions()
    room = _room(name, text, max_positions, spec)
    stop = _newline(text) if subset == "samsum" else frozenset()
    encode = _encoder(subset, prompts[subset], room, text)
    samples: list[Sample] = []
    contexts: list[str] = []
    broken: list[Sample] = []
    for n, row in enumerate(rows):
        shown = {
            "subset": name, "answers": row["answers"], "all_classes": row.get("all_classes"),
            "length": row.get("length"), "input": row["input"],
        }  # fmt: skip
        named = Sample(id=f"{name}.{row.get('_id', n)}", shown=shown, problem=half_a_character(row))
        if named.problem:
            broken.append(named)
            continue
        ids, truncated = encode(row)
        request = Generate(ids=ids, max_new_tokens=limits[subset], stop=stop)
        samples.append(replace(named, requests=(request,), shown={**shown, "truncated": truncated}))
        contexts.append(row["context"])
    shared = share_prefixes([sample.requests[0] for sample in samples], contexts)
    return broken + [replace(sample, requests=(request,)) for sample, request in zip(samples, shared, strict=True)]


def _encoder(subset: str, template: str, room: int, text: Text) -> Callable[[Row], tuple[list[int], bool]]:
    def encode(row: Row) -> tuple[list[int], bool]:
        prompt, truncated = cut_middle(text, asked(template, row), room)
        return text.prompt_ids(prompt, chat=subset not in NO_CHAT), truncated

    return encode


def _newline(text: Text) -> frozenset[int]:
    return frozenset(text.ids("\n")[-1:])


def record(sample: Sample, answers: list[Answer]) -> Record:
    shown, pred = sample.shown, answers[0]["text"]
    score = row_score(shown["subset"].removesuffix("_e"), pred, shown["answers"], shown["all_classes"])
    return {"subset": shown["subset"], "pred": pred, **shown, "score": score}


def measures(records: list[Record], seed: int) -> dict[str, Measure]:
    found: dict[str, Measure] = {}
    for name in dict.fromkeys(r["subset"] for r in records):
        own = [r for r in records if r["subset"] == name]
        metric = SUBSETS[name.removesuffix("_e")]
        found[f"longbench.{name}"] = _measure(own, metric, seed)
        if name.endswith("_e"):
            for part in BUCKETS:
                inside = [r for r in own if bucket(r["length"]) == part]
                found[f"longbench.{name}.{part}"] = _measure(inside, metric, seed)
    return found


def _measure(records: list[Record], metric: str, seed: int) -> Measure:
    good, failures = answered(records)
    scores = [r["score"] for r in good]
    name = f"LongBench {metric}, percent"
    found = mean(scores, failures=failures, seed=seed, scale=100.0, implementation=name, share=True)
    return replace(found, value=round(found.value, 2) if found.value is not None else None)


def files(records: list[Record]) -> dict[str, list[Record]]:
    """The predictions in the official layout, for `recipe score longbench` and the official script."""
    good, _ = answered(records)
    keys = ("pred", "answers", "all_classes", "length")
    names = dict.fromkeys(r["subset"] for r in good)
    return {
        f"longbench/{name}.jsonl": [{key: r[key] for key in keys} for r in good if r["subset"] == name]
        for name in names
    }


def values(metric: str) -> Values | None:
    _, *names = metric.split(".")
    return Values(key="score", better="higher", subset=names[0], examples=True) if len(names) == 1 else None
