"""Other rows, whatever field tells them apart, have another hash, and numbers over them are never compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.report.compare import compare
from eval.report.results import Entry
from eval.spec import Spec
from eval.suites import suite
from eval.suites.lm_eval.records import told
from eval.suites.lm_eval.worker import _data
from recipes.errors import UserError
from recipes.suites import LM_EVAL, SUITES
from tests.eval import made
from tests.eval.fakes import text
from tests.eval.test_lm_eval import outcome, sample

Row = dict[str, Any]


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": role, "content": c} for role, c in zip(("user", "assistant"), contents, strict=False)]


CHAT: Row = {"messages": turns("What is a bond?", "A loan.")}
CHATS = {"question": {"messages": turns("What is cash?", "A loan.")},
         "reply": {"messages": turns("What is a bond?", "Debt.")}}  # fmt: skip
PAIR: Row = {"prompt": turns("Is cash safe?"), "chosen": [{"role": "assistant", "content": "No."}],
             "rejected": [{"role": "assistant", "content": "Yes."}]}  # fmt: skip
CHOICES: Row = {"question": "Can pigs fly?", "mc1_targets": {"No": 1, "Yes": 0}, "mc2_targets": {"No": 1, "Sure": 0}}
OTHER_CHOICES: dict[str, Row] = {
    "question": {"question": "Can cows fly?"},
    "mc1_targets": {"mc1_targets": {"No": 1, "Perhaps": 0}},
    "labels": {"mc1_targets": {"No": 0, "Yes": 1}},
    "mc2_targets": {"mc2_targets": {"No": 1, "Of course": 0}},
}
FREE: Row = {"question": "Can pigs fly?", "correct": ["No"], "incorrect": ["Yes"]}
ASKED: Row = {"input": "Who won?", "context": "Ann won.", "answers": ["Ann"], "all_classes": ["a", "b"], "length": 9}
MEETING: Row = {
    "meeting_transcripts": [{"speaker": "Ann", "content": "Hi."}],
    "general_query_list": [{"query": "Summarize.", "answer": "Ann greets."}],
    "specific_query_list": [{"query": "Who?", "answer": "Ann"}],
}
# Of each suite: the name of its file, a row, and of each field that makes its samples what another row has there.
TABLE: list[tuple[str, str, Row, Mapping[str, Row]]] = [
    ("perplexity", "rows.jsonl", CHAT, CHATS),
    ("perplexity", "rows.jsonl", {"text": "A bond is a loan."}, {"text": {"text": "A bond is debt."}}),
    ("generation", "rows.jsonl", CHAT, CHATS),
    ("reference", "rows.jsonl", CHAT, CHATS),
    ("preference", "rows.jsonl", PAIR, {
        "prompt": {"prompt": turns("Is gold safe?")}, "chosen": {"chosen": PAIR["rejected"]},
        "rejected": {"rejected": PAIR["chosen"]},
    }),
    ("truthfulqa", "rows.jsonl", CHOICES, OTHER_CHOICES),
    ("truthfulqa", "rows.jsonl", FREE, {
        "question": {"question": "Can cows fly?"}, "correct": {"correct": ["Never"]},
        "incorrect": {"incorrect": ["Always"]},
    }),
    ("truthfulqa_mc", "rows.jsonl", CHOICES, OTHER_CHOICES),
    ("longbench", "trec_e.jsonl", ASKED, {
        "_id": {"_id": "x"}, "input": {"input": "Who lost?"}, "context": {"context": "Bob won."},
        "answers": {"answers": ["Bob"]}, "all_classes": {"all_classes": ["a", "c"]}, "length": {"length": 5000},
    }),
    ("qmsum", "rows.jsonl", ASKED, {
        "_id": {"_id": "x"}, "input": {"input": "Who lost?"}, "context": {"context": "Bob won."},
        "answers": {"answers": ["Bob"]},
    }),
    ("qmsum", "rows.jsonl", MEETING, {
        "speaker": {"meeting_transcripts": [{"speaker": "Bob", "content": "Hi."}]},
        "content": {"meeting_transcripts": [{"speaker": "Ann", "content": "Bye."}]},
        "query": {"general_query_list": [{"query": "In one word?", "answer": "Ann greets."}]},
        "answer": {"specific_query_list": [{"query": "Who?", "answer": "Bob"}]},
    }),
]  # fmt: skip
CASES = [(name, file, row, {**row, **other}) for name, file, row, others in TABLE for other in others.values()]
NAMES = [f"{name}-{field}" for name, _, _, others in TABLE for field in others]


def test_every_suite_stands_in_the_table() -> None:
    assert {name for name, *_ in TABLE} == set(SUITES)


def loaded(directory: Path, name: str, file: str, *rows: Row) -> Mapping[str, Any]:
    """What a suite says of a file of rows as its data."""
    directory.mkdir()
    (directory / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = Spec(models=(), suites=(), data={name: str(directory / file)})
    return suite(name).load(spec, text(), 100_000).data


def entry(name: str, asked: str, data: Mapping[str, Any]) -> Entry:
    about = made.provenance(name, (asked,))
    about["suites"][asked]["data"] = dict(data)
    metric = "perplexity" if asked == "perplexity" else f"{asked}.x"
    return Entry(name=name, results=made.results({metric: made.measure(0.5)}, about))


@pytest.mark.parametrize(("name", "file", "row", "other"), CASES, ids=NAMES)
def test_numbers_over_other_rows_are_refused(tmp_path: Path, name: str, file: str, row: Row, other: Row) -> None:
    """Where one row of several differs in one field; the same rows elsewhere are the same data."""
    first, same = (loaded(tmp_path / each, name, file, row, {**row, "_id": "z"}) for each in ("a", "b"))
    unlike = loaded(tmp_path / "c", name, file, other, {**row, "_id": "z"})
    assert first["used"] == same["used"] != unlike["used"]
    compare(entry("a", name, first), entry("b", name, same))
    with pytest.raises(UserError, match=f"{name}: the samples differ"):
        compare(entry("a", name, first), entry("c", name, unlike))


@pytest.mark.parametrize("other", [{"doc_hash": "d9"}, {"target_hash": "t9"}, {"doc_id": 9}])
def test_tasks_of_lm_eval_over_other_rows_are_refused(other: Row) -> None:
    name, task = f"{LM_EVAL}x", SimpleNamespace(path=None)

    def data(**fields: Any) -> Mapping[str, Any]:
        samples = [sample(0, acc=1) | fields, sample(1, acc=0)]
        found = outcome({"x": samples}, {"x": {"acc,none": 0.5}})
        return _data(name, task, found, told(name, found, "0", 1))  # type: ignore[arg-type]

    compare(entry("a", name, data()), entry("b", name, data()))
    with pytest.raises(UserError, match=f"{name}: the samples differ"):
        compare(entry("a", name, data()), entry("c", name, data(**other)))
