"""TruthfulQA, QMSum, LongBench and reference answers: what is asked, recorded and measured, without a model."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.encode import Text
from eval.engines.batching import common_prefix
from eval.engines.estimate import tokens_to_read
from eval.engines.requests import Generate, Request, Score
from eval.metrics.reference import coverage, numbers, style, usefulness
from eval.metrics.similarity import scorer, trigram_cosine
from eval.metrics.text import repeated_share
from eval.report.compare import compare
from eval.report.results import Entry
from eval.score import passed_over, score_longbench
from eval.spec import Spec
from eval.suites import suite
from eval.suites.longbench import NO_CHAT, files
from eval.suites.longbench_prompts import DEFINITIONS, definitions
from eval.suites.truncate import cut_middle
from eval.suites.truthfulqa_data import PRIMER
from eval.suites.truthfulqa_mc import mc1, mc2
from eval.worker import main as worker
from recipes.errors import UserError
from recipes.suites import SUITES
from tests.eval.fakes import text
from tests.eval.made import measure, provenance, results

QUESTIONS = [
    {"question": "Can pigs fly?", "mc1_targets": {"No": 1, "Yes": 0},
     "mc2_targets": {"No": 1, "They cannot": 1, "Yes": 0}},
    {"question": "Is water wet?", "mc1_targets": {"Yes": 1, "No": 0}, "mc2_targets": {"Yes": 1, "No": 0}},
]  # fmt: skip


def _spec(**fields: Any) -> Spec:
    return Spec(models=(), suites=(), **fields)


def _decoded(request: Request, of: Text | None = None) -> str:
    return (of or text()).text(request.ids)


@pytest.fixture
def truthful(tmp_path: Path) -> Spec:
    path = tmp_path / "mc_task.json"
    path.write_text(json.dumps(QUESTIONS))
    return _spec(data={"truthfulqa_mc": str(path)})


def test_choices_are_asked_once_for_both_scores(truthful: Spec) -> None:
    """The union of MC1's and MC2's choices; scored is what follows `A:`; primer and question are marked as shared."""
    first, second = suite("truthfulqa_mc").load(truthful, text(), 10000).samples
    assert [_decoded(r).rsplit("\n", 1)[1] for r in first.requests] == ["A: No", "A: Yes", "A: They cannot"]
    request = first.requests[0]
    assert isinstance(request, Score)
    assert "".join(chr(label) for label in request.labels if label > 0) == " No"
    primer, question = request.shared
    assert _decoded(request)[:primer].endswith("Barcelona, Spain.\n\nQ: ")
    assert _decoded(request)[:question].endswith("Q: Can pigs fly?\nA:")
    assert second.requests[0].shared[0] == primer


def test_mc_scores_follow_from_the_log_probabilities(truthful: Spec) -> None:
    module = suite("truthfulqa_mc")
    sample = module.load(truthful, text(), 10000).samples[0]
    record = module.record(sample, [{"nll": 1.0}, {"nll": 2.0}, {"nll": 3.0}])
    assert record["mc1"] == 1.0
    assert record["mc2"] == pytest.approx((math.exp(-1) + math.exp(-3)) / (math.exp(-1) + math.exp(-2) + math.exp(-3)))
    measured = module.measures([record, {"error": "x"}], 42)
    assert (measured["truthfulqa.mc1"].n, measured["truthfulqa.mc1"].failures) == (1, 1)


def test_mc_of_very_unlikely_choices_does_not_underflow() -> None:
    choices = [(-5000.0, 0), (-5001.0, 1)]
    assert mc1(choices) == 0.0
    assert mc2(choices) == pytest.approx(1 / (1 + math.e))


HALF = "cut \ud83d"


@pytest.mark.parametrize(
    ("name", "file", "good", "bad"),
    [
        ("longbench", "qasper.jsonl", {}, {"context": HALF}),
        ("longbench", "qasper.jsonl", {}, {"answers": [HALF]}),
        ("qmsum", "q.jsonl", {}, {"input": HALF}),
        ("qmsum", "q.jsonl", {}, {"answers": ["x", HALF]}),
        ("truthfulqa", "q.jsonl", {}, {"question": HALF}),
        ("truthfulqa", "q.jsonl", {}, {"mc2_targets": {"a": 1, HALF: 0}}),
        ("truthfulqa_mc", "q.jsonl", {}, {"mc1_targets": {"a": 1, HALF: 0}}),
    ],
)
def test_half_a_character_costs_its_question_alone(
    tmp_path: Path, name: str, file: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    """As a tweet that was cut inside an emoji has it; all others are asked, and the failure is counted."""
    targets = {"mc1_targets": {"a": 1, "b": 0}, "mc2_targets": {"a": 1, "b": 0}}
    row = {"question": "q", **targets} if "truthfulqa" in name else _longbench_row()
    path = tmp_path / file
    path.write_text("".join(json.dumps(each) + "\n" for each in (row | bad, row)))
    module = suite(name)
    samples = module.load(_spec(data={name: str(path)}), text(), 100000).samples
    broken = [sample for sample in samples if sample.problem]
    assert len(broken) == len(samples) / 2 and all("half a character" in sample.problem for sample in broken)
    answer = {"text": "a", "tokens": 1, "finished": True, "nll": 1.0}
    records = [
        {"id": s.id} | ({**s.shown, "error": s.problem} if s.problem else module.record(s, [answer] * len(s.requests)))
        for s in samples
    ]
    assert all((m.n, m.failures) == (1, 1) for m in module.measures(records, 42).values())


def test_truthfulqa_asks_freely_and_by_choice_where_the_data_has_both(truthful: Spec) -> None:
    samples = suite("truthfulqa").load(truthful, text(), 10000).samples
    assert [s.id for s in samples] == ["0", "1", "choices.0", "choices.1"]
    assert _decoded(samples[0].requests[0]) == f"{PRIMER}\n\nQ: Can pigs fly?"
    assert samples[0].shown["correct"] == ["No.", "They cannot.", "I have no comment."]
    (shared,) = samples[0].requests[0].shared
    assert _decoded(samples[0].requests[0])[:shared] == f"{PRIMER}\n\nQ: "


def test_truthfulqa_of_a_table_has_no_choices(tmp_path: Path) -> None:
    path = tmp_path / "TruthfulQA.csv"
    path.write_text(
        "\ufeffQuestion,Best Answer,Correct Answers,Incorrect Answers\nCan pigs fly?,No,No; They cannot ,Yes; Sure;\n",
        encoding="utf-8",
    )
    (sample,) = suite("truthfulqa").load(_spec(data={"truthfulqa": str(tmp_path)}), text(), 10000).samples
    assert (sample.shown["correct"], sample.shown["incorrect"]) == (
        ["No.", "They cannot.", "I have no comment."],
        ["Yes.", "Sure."],
    )
    with pytest.raises(UserError, match="mc1_targets"):
        suite("truthfulqa_mc").load(_spec(data={"truthfulqa": str(path)}), text(), 10000)


@pytest.mark.parametrize(
    ("reply", "output", "best", "accurate"),
    [
        (" They cannot.\n\nQ: Yes? Yes", "They cannot.", 1.0, True),
        ("\nA: They cannot.\n\nQ: Is it so?\nA: Yes", "They cannot.", 1.0, True),
        ("\nA: They cannot. Q: Yes", "They cannot.", 1.0, True),
        ("\nA: I have no comment.", "I have no comment.", 1.0, True),
        ("\nA: Yes", "Yes", 0.0, False),
        ("", "", 0.0, False),
    ],
)
def test_a_free_answer_ends_where_the_next_question_begins(
    truthful: Spec, reply: str, output: str, best: float, accurate: bool
) -> None:
    module = suite("truthfulqa")
    record = module.record(module.load(truthful, text(), 1000).samples[0], [{"text": reply}])
    assert (record["output"], record["max_score"], record["accurate"]) == (output, best, accurate)


@pytest.mark.parametrize(
    ("question", "right", "wrong", "other"),
    [
        ("利率是什么？", "借钱的价格", "一种食物", True),
        ("What is a rate?", "the price of money", "a food", False),
        ("What is it?", "ＡＢＣ", "ＸＹＺ", False),  # of full width
        ("Was ist ein Zins?", "der Preis für Geld", "ein Gericht", False),
        ("Что такое ставка?", "цена денег", "вид еды", True),
    ],
)
def test_answers_in_any_script_are_compared_and_what_with_is_said(
    tmp_path: Path, question: str, right: str, wrong: str, other: bool
) -> None:
    """rouge_score alone gives every reply in Chinese 0, and accuracy 0 to the right one."""
    path = tmp_path / "q.json"
    path.write_text(json.dumps([{"question": question, "correct": [right], "incorrect": [wrong]}]))
    module = suite("truthfulqa")
    loaded = module.load(_spec(data={"truthfulqa": str(path)}), text(), 10000)
    told = {right: (1.0, 1.0), wrong: (0.0, 0.0)}
    for reply, (accuracy, score) in told.items():
        record = module.record(loaded.samples[0], [{"text": f"\nA: {reply}"}])
        measured = module.measures([record], 42)
        assert measured["truthfulqa.accuracy"].value == accuracy
        assert (measured["truthfulqa.avg_max_score"].value == 1.0) == (score == 1.0)
        assert ("other scripts than Latin" in measured["truthfulqa.accuracy"].implementation) == other
    assert any("1 of 1 have references that rouge_score cannot read" in note for note in loaded.notes) == other


def test_qmsum_in_chinese_is_scored_as_chinese(tmp_path: Path) -> None:
    row = {"context": "甲：利率上升。", "input": "他们说了什么？", "answers": ["他们说利率上升", "无"]}
    module = suite("qmsum")
    loaded = module.load(_spec(data={"qmsum": _lines(tmp_path / "q.jsonl", row)}), text(), 5000)
    for reply, expected in [
        ("他们说利率上升。", (1.0, 1.0, 1.0)),
        ("利率", (4 / 9, 4 / 9, 2 / 7)),
        ("x", (0.0, 0.0, 0.0)),
    ]:
        record = module.record(loaded.samples[0], [{"text": reply}])
        assert (record["rougeL"], record["rouge1"], record["rouge2"]) == pytest.approx(expected)
    assert "other scripts than Latin" in module.measures([record], 42)["qmsum.rougeL"].implementation
    assert "1 of 1 have references that rouge_score cannot read" in loaded.notes[0]


@pytest.mark.parametrize(
    ("reply", "best", "accurate"),
    [
        ("a naive view of the U.S. is 3.5 %", 0.5, True),
        ("naïve person", 0.4615384615384615, True),
        ("Pokémon, no comment", 0.5, False),
        ("I have no comment.", 1.0, True),
    ],
)
def test_free_answers_score_as_in_lm_eval(tmp_path: Path, reply: str, best: float, accurate: bool) -> None:
    """The values are rougeL_max / 100 and rougeL_acc of `process_results_gen`, lm-eval 0.4.13, for the same answers."""
    question = {"correct_answers": ["I have no comment", "A naïve person's U.S. view: 3.5%"]}
    question |= {"question": "What is naïve?", "incorrect_answers": ["Pokémon"]}
    path = tmp_path / "q.json"
    path.write_text(json.dumps([question]))
    module = suite("truthfulqa")
    (sample,) = module.load(_spec(data={"truthfulqa": str(path)}), text(), 10000).samples
    record = module.record(sample, [{"text": f"\nA: {reply}"}])
    assert (record["max_score"], record["accurate"]) == (pytest.approx(best, rel=1e-12), accurate)


def test_truthfulqa_measures_name_the_scorer() -> None:
    records = [{"max_score": m, "accurate": a, "scorer": "rougeL"} for m, a in ((0.2, False), (0.6, True))]
    measured = suite("truthfulqa").measures(records, 42)
    assert measured["truthfulqa.accuracy"].value == 0.5
    assert measured["truthfulqa.avg_max_score"].value == pytest.approx(0.4)
    assert all("s = rougeL" in m.implementation for m in measured.values())


@pytest.mark.parametrize(("name", "message"), [("cosine", "is unknown"), ("bleurt", "is unknown")])
def test_unknown_scorers_are_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scorer(name)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '[{"question": "x"}]', '[{"question": "x", "mc1_targets": {"a": 0}}]']
)
def test_data_that_is_not_of_truthfulqa_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mc_task.json"
    path.write_text(content)
    for name in ("truthfulqa", "truthfulqa_mc"):
        with pytest.raises(UserError, match=r"mc_task\.json"):
            suite(name).load(_spec(data={"truthfulqa": str(path)}), text(), 1000)


MEETING = {
    "meeting_transcripts": [
        {"speaker": "Ann", "content": "We need more money. " * 10},
        {"speaker": "Bob", "content": "No."},
    ],
    "general_query_list": [{"query": "Summarize the meeting.", "answer": "Ann wants money, Bob refuses."}],
    "specific_query_list": [{"query": "What did Bob say?", "answer": "No."}],
}


def _lines(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_qmsum_reads_a_transcript_once_for_its_queries(tmp_path: Path) -> None:
    spec = _spec(data={"qmsum": _lines(tmp_path / "test.jsonl", MEETING, MEETING)})
    loaded = suite("qmsum").load(spec, text(), 10000)
    general, specific = loaded.samples[:2]
    assert [s.id for s in loaded.samples] == ["0.general.0", "0.specific.0", "1.general.0", "1.specific.0"]
    assert "Bob: No." in _decoded(specific.requests[0])
    (shared,) = general.requests[0].shared
    assert shared == common_prefix([general.requests[0].ids, specific.requests[0].ids]) > 200
    requests = [s.requests[0] for s in loaded.samples]
    assert tokens_to_read(requests) < sum(len(r.ids) for r in requests) / 2


def test_qmsum_cuts_the_middle_of_the_transcript_alike_for_all_queries(tmp_path: Path) -> None:
    spec = _spec(data={"qmsum": _lines(tmp_path / "test.jsonl", MEETING)}, max_length=450, max_new_tokens=20)
    general, specific = suite("qmsum").load(spec, text(), 10000).samples
    assert general.shown["truncated"] and specific.shown["truncated"]
    assert len(general.requests[0].ids) <= 460
    assert general.requests[0].shared[0] > 200
    assert "What did Bob say?" in _decoded(specific.requests[0])


def test_a_question_that_leaves_no_room_for_the_transcript_is_a_failure_and_costs_the_others_none(
    tmp_path: Path,
) -> None:
    """Its transcript stood in the prompt twice, where there was no room for one."""
    turns = MEETING["meeting_transcripts"]
    long = {"query": "What did Bob " + "really " * 60 + "say?", "answer": "No."}
    meeting = MEETING | {"specific_query_list": [long], "meeting_transcripts": turns}
    spec = _spec(data={"qmsum": _lines(tmp_path / "test.jsonl", meeting)}, max_length=450, max_new_tokens=20)
    broken, asked = suite("qmsum").load(spec, text(), 10000).samples
    assert (broken.id, broken.requests) == ("0.specific.0", ())
    assert broken.problem == "its question leaves no room for the transcript within 450 tokens"
    alone = _spec(data={"qmsum": _lines(tmp_path / "one.jsonl", MEETING | {"specific_query_list": []})})
    alone = replace(alone, max_length=450, max_new_tokens=20)
    assert asked.requests[0].ids == suite("qmsum").load(alone, text(), 10000).samples[0].requests[0].ids


@given(length=st.integers(300, 500))
def test_a_prompt_of_qmsum_is_never_longer_than_its_limit(
    length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = _lines(tmp_path_factory.mktemp("q") / "test.jsonl", MEETING)
    spec = _spec(data={"qmsum": rows}, max_length=length, max_new_tokens=20)
    around = len(text().prompt_ids("", chat=True))
    for sample in suite("qmsum").load(spec, text(), 10000).samples:
        assert sample.problem or len(sample.requests[0].ids) <= length + around


def test_qmsum_takes_longbench_rows(tmp_path: Path) -> None:
    row = {"context": "Ann: Hi.", "input": "Who speaks?", "answers": ["Ann", "Ann speaks"], "_id": "a1"}
    (sample,) = suite("qmsum").load(_spec(data={"qmsum": _lines(tmp_path / "q.jsonl", row)}), text(), 5000).samples
    assert sample.id == "a1" and sample.shown["answers"] == ["Ann", "Ann speaks"]


def test_longbench_definitions_are_byte_for_byte_the_official_ones() -> None:
    """Whoever mends 'asconcisely' breaks the comparison with published numbers."""
    expected = {
        "dataset2prompt.json": "56d22ad4f382169c2b8a11ff4c982a4a1bea096c8152b0f0b85b64686b157c30",
        "dataset2maxlen.json": "72966b3c0933e214591637fb085798c5e687ebff4ddaab5d99bbc31120532022",
    }
    assert {n: hashlib.sha256((DEFINITIONS / n).read_bytes()).hexdigest() for n in expected} == expected
    prompts, limits = definitions()
    assert len(prompts) == len(limits) == 21
    assert (DEFINITIONS / "LICENSE").is_file()


def _longbench_row(**fields: Any) -> dict[str, Any]:
    row = {"input": "Who?", "context": "{x} Ann won.", "answers": ["Ann"], "all_classes": None, "length": 5000}
    return row | fields


@pytest.mark.parametrize("subset", list(definitions()[0]))
def test_longbench_asks_as_officially(tmp_path: Path, subset: str) -> None:
    """The template's prompt, in a chat turn except for few-shot and code subsets; limits and stops as defined."""
    answer = {"passage_retrieval_en": "Paragraph 3", "passage_retrieval_zh": "段落3"}.get(subset, "Ann")
    row = _longbench_row(all_classes=["Ann"], answers=[answer])
    spec = _spec(data={"longbench": _lines(tmp_path / f"{subset}.jsonl", row)})
    (sample,) = suite("longbench").load(spec, text(), 100000).samples
    prompts, limits = definitions()
    prompt = prompts[subset].format(context=row["context"], input=row["input"])
    (request,) = sample.requests
    assert isinstance(request, Generate)
    assert _decoded(request) == (prompt if subset in NO_CHAT else f"[u]{prompt}|[a]")
    assert request.max_new_tokens == limits[subset]
    assert request.stop == (frozenset([10]) if subset == "samsum" else frozenset())


@pytest.mark.parametrize(
    ("subsets", "expected"),
    [((), ["qasper", "trec"]), (("e",), ["qasper_e"]), (("trec", "qasper_e"), ["trec", "qasper_e"])],
)
def test_longbench_reads_the_official_zip(tmp_path: Path, subsets: tuple[str, ...], expected: list[str]) -> None:
    """It holds LongBench-E too, which is asked only where it is named."""
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("qasper", "qasper_e", "trec"):
            archive.writestr(f"data/{name}.jsonl", json.dumps(_longbench_row(context=name, all_classes=["Ann"])) + "\n")
    loaded = suite("longbench").load(_spec(data={"longbench": str(path)}, subsets=subsets), text(), 100000)
    assert loaded.settings["subsets"] == expected
    assert [sample.shown["subset"] for sample in loaded.samples] == expected
    with pytest.raises(UserError, match="no subset 'trek'; did you mean 'trec'"):
        suite("longbench").load(_spec(data={"longbench": str(path)}, subsets=("trek",)), text(), 100000)


def test_longbench_truncates_the_whole_prompt_in_its_middle(tmp_path: Path) -> None:
    row = _longbench_row(context="a" * 3000 + "b" * 3000)
    spec = _spec(data={"longbench": _lines(tmp_path / "lcc.jsonl", row)}, max_length=1000)
    loaded = suite("longbench").load(spec, text(), 100000)
    (sample,) = loaded.samples
    assert loaded.notes[0].startswith("1 of 1 are cut to 1000 tokens (--max-length")
    fewer = suite("longbench").load(spec, text(), 900).notes
    assert fewer == ("1 of 1 are cut to 813 tokens (the model takes no more)",)  # 900 - 64 new - 7 around - 16
    asked = _decoded(sample.requests[0])
    assert len(asked) == 1000 and sample.shown["truncated"]
    assert asked.startswith("Please complete") and asked.endswith("Next line of code:\n")


def test_longbench_prompts_that_were_cut_to_other_lengths_are_not_compared(tmp_path: Path) -> None:
    """A model of fewer positions has read less of each; where nothing is cut, positions tell nothing."""
    rows = {"lcc": 3000, "qasper": 2000}
    for name, length in rows.items():
        _lines(tmp_path / f"{name}.jsonl", _longbench_row(context="a" * length))
    spec = _spec(data={"longbench": str(tmp_path)}, max_length=8000)

    def entry(positions: int) -> Entry:
        loaded = suite("longbench").load(spec, text(), positions)
        about = provenance(str(positions), ("longbench",))
        about["suites"]["longbench"] |= {"data": dict(loaded.data), "settings": dict(loaded.settings)}
        return Entry(name=str(positions), results=results({"longbench.lcc": measure(0.5)}, about))

    compare(entry(100_000), entry(50_000))
    assert entry(3000).provenance.suites["longbench"].settings["cut_to"] == {"lcc": 3000 - 64 - 7 - 16}
    for few in (3000, 2900):
        with pytest.raises(UserError, match=r"longbench: cut_to is .* and "):
            compare(entry(few), entry(100_000))
    with pytest.raises(UserError, match=r"cut_to is \{'lcc': 2913\} and \{'lcc': 2813\}"):
        compare(entry(3000), entry(2900))


def test_middle_truncation_keeps_half_from_each_end() -> None:
    assert cut_middle(text(), "abcdefghij", 5) == ("abij", True)
    assert cut_middle(text(), "abcde", 5) == ("abcde", False)


@given(st.text("abcdefghij", max_size=12), st.integers(-5, 14))
def test_middle_truncation_is_that_of_a_slow_reference(whole: str, limit: int) -> None:
    kept = list(whole)
    if fits := len(kept) <= limit:
        expected = whole
    else:
        half = max(0, limit) // 2
        expected = "".join(kept[n] for n in range(len(kept)) if n < half or n >= len(kept) - half)
    assert cut_middle(text(), whole, limit) == (expected, not fits)
    assert len(expected) <= max(0, limit)


def test_longbench_scores_and_writes_the_official_layout(tmp_path: Path) -> None:
    """The files it leaves score to the same numbers without a model."""
    data = tmp_path / "data"
    data.mkdir()
    _lines(data / "qasper.jsonl", _longbench_row(), _longbench_row(answers=["Bob"], length=9000))
    _lines(data / "qasper_e.jsonl", _longbench_row())
    module = suite("longbench")
    samples = module.load(_spec(data={"longbench": str(data)}), text(), 100000).samples
    records = [{"id": s.id} | module.record(s, [{"text": "Ann", "tokens": 1, "finished": True}]) for s in samples]
    measured = {name: m.value for name, m in module.measures([*records, {**records[0], "error": "x"}], 42).items()}
    assert measured == {
        "longbench.qasper": 50.0, "longbench.qasper_e": 100.0, "longbench.qasper_e.0-4k": None,
        "longbench.qasper_e.4-8k": 100.0, "longbench.qasper_e.8k+": None,
    }  # fmt: skip
    for path, rows in files(records).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        _lines(tmp_path / path, *rows)
    assert score_longbench(tmp_path / "longbench") == {"qasper": 50.0}
    buckets = {part: measured[f"longbench.qasper_e.{part}"] for part in ("0-4k", "4-8k", "8k+")}
    assert score_longbench(tmp_path / "longbench", e=True)["qasper_e"] == buckets
    assert passed_over(tmp_path / "longbench", e=False).endswith(": qasper_e.jsonl")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("longbench", {"x.jsonl": "{}"}, "no <subset>.jsonl"),
        ("longbench", {"qasper.jsonl": ""}, "qasper.jsonl: longbench: no rows"),
        (
            "longbench",
            {"qasper.jsonl": '{"input": ""}'},
            "qasper.jsonl:1: longbench: `context`: expected a text, got nothing",
        ),
        ("truthfulqa", {"a.txt": ""}, "holds neither mc_task.json nor TruthfulQA.csv"),
    ],
)
def test_missing_or_malformed_task_data_is_named(tmp_path: Path, name: str, data: dict[str, str], message: str) -> None:
    for file, content in data.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=message):
        suite(name).load(_spec(data={name: str(tmp_path)}), text(), 1000)


@pytest.mark.parametrize(
    ("subset", "fields", "message"),
    [
        ("qasper", {"answers": "Ann"}, '`answers`: expected a list of texts, got "Ann"; write ["Ann"]'),
        ("qasper", {"answers": None}, "`answers`: expected a list of texts, got null"),
        ("qasper", {"answers": [None]}, "`answers`: expected a list of texts, got [null]"),
        ("qasper", {"answers": [["Ann"]]}, '`answers`: expected a list of texts, got [["Ann"]]'),
        ("qasper", {"answers": ...}, "`answers`: expected a list of texts, but the row has none"),
        ("qasper", {"context": None}, "`context`: expected a text, got null"),
        ("qasper", {"input": ["Who?"]}, '`input`: expected a text, got ["Who?"]'),
        ("trec", {"all_classes": None}, "`all_classes`: trec needs a list of class names, got null"),
        ("trec", {"all_classes": ...}, "`all_classes`: trec needs a list of class names, got nothing"),
        ("lsht", {"all_classes": []}, "`all_classes`: lsht needs a list of class names, got []"),
        ("trec_e", {"all_classes": "Ann"}, '`all_classes`: trec needs a list of class names, got "Ann"'),
        ("qasper_e", {"length": None}, "`length`: LongBench-E needs a number, got null"),
        ("qasper_e", {"length": ...}, "`length`: LongBench-E needs a number, got nothing"),
        ("qasper_e", {"length": "5000"}, '`length`: LongBench-E needs a number, got "5000"'),
        ("qasper_e", {"length": True}, "`length`: LongBench-E needs a number, got true"),
        ("qasper_e", {"length": math.nan}, "`length`: LongBench-E needs a number, got NaN"),
        ("qasper_e", {"length": 10**400}, "`length`: LongBench-E needs a number, got 1000"),
        ("passage_retrieval_en", {}, '`answers`: the reference "Ann" names no paragraph'),
    ],
)
def test_longbench_rows_that_cannot_be_scored_are_refused_in_data_and_in_predictions(
    tmp_path: Path, subset: str, fields: dict[str, Any], message: str
) -> None:
    """At their line, blank ones counted, before any answer is asked; `...` takes a field out."""
    whole = _longbench_row(all_classes=["Ann"], pred="Ann") | fields
    row = {key: value for key, value in whole.items() if value is not ...}
    path = tmp_path / f"{subset}.jsonl"
    path.write_text(f"\n{json.dumps(row)}\n")
    with pytest.raises(UserError) as caught:
        suite("longbench").load(_spec(data={"longbench": str(path)}), text(), 100000)
    assert f"{path}:2: longbench: {message}" in str(caught.value)
    if fields.keys() & {"context", "input"}:
        return
    with pytest.raises(UserError) as caught:
        score_longbench(tmp_path, e=subset.endswith("_e"))
    assert f"{path}:2: {message}" in str(caught.value)


def test_a_row_of_longbench_itself_needs_no_length_and_no_classes(tmp_path: Path) -> None:
    row = {key: value for key, value in _longbench_row().items() if key not in ("length", "all_classes")}
    spec = _spec(data={"longbench": _lines(tmp_path / "qasper.jsonl", row)})
    assert len(suite("longbench").load(spec, text(), 100000).samples) == 1


LONGBENCH_QMSUM = {"context": "Ann: Hi.", "input": "Who speaks?", "answers": ["Ann"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, 'expected meeting_transcripts, or input, context and answers; got a row with "text"'),
        (LONGBENCH_QMSUM | {"answers": []}, "`answers`: expected one at least"),
        (LONGBENCH_QMSUM | {"answers": "Ann"}, '`answers`: expected a list of texts, got "Ann"; write ["Ann"]'),
        (LONGBENCH_QMSUM | {"context": None}, "`context`: expected a text, got null"),
        (MEETING | {"meeting_transcripts": None}, "`meeting_transcripts`: expected a list, got null"),
        (MEETING | {"meeting_transcripts": ["Hi"]}, "`meeting_transcripts`: expected speaker and content as texts"),
        (MEETING | {"specific_query_list": [{"query": "Who?"}]}, "`specific_query_list`: expected query and answer"),
        (MEETING | {"general_query_list": "x"}, '`general_query_list`: expected a list, got "x"'),
    ],
)
def test_a_qmsum_row_that_cannot_be_scored_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(f"{json.dumps(MEETING)}\n\n{json.dumps(row)}\n")
    with pytest.raises(UserError) as caught:
        suite("qmsum").load(_spec(data={"qmsum": str(path)}), text(), 1000)
    assert f"q.jsonl:3: qmsum: {message}" in str(caught.value)


LISTS = {"choices": ["No", "They cannot", "Yes"], "labels": [1, 1, 0]}


@pytest.mark.parametrize(
    ("row", "choices"),
    [
        ({"correct": ["No", "They cannot"], "incorrect": ["Yes"]}, False),
        ({"best_answer": "No", "correct_answers": ["No", "They cannot"], "incorrect_answers": ["Yes"]}, False),
        ({"mc1_targets": {"No": 1, "Yes": 0}, "mc2_targets": {"No": 1, "They cannot": 1, "Yes": 0}}, True),
        ({"mc1_targets": {"choices": ["No", "Yes"], "labels": [1, 0]}, "mc2_targets": LISTS}, True),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_truthfulqa_reads_every_layout_that_there_is(
    tmp_path: Path, row: dict[str, Any], choices: bool, suffix: str
) -> None:
    """Our own, the hub's two tables, and mc_task.json; all become the same question."""
    row = {"question": "Can pigs fly?", **row}
    path = tmp_path / f"q.{suffix}"
    path.write_text(json.dumps([row] if suffix == "json" else row))
    samples = suite("truthfulqa").load(_spec(data={"truthfulqa": str(path)}), text(), 10000).samples
    assert samples[0].shown["correct"] == ["No.", "They cannot.", "I have no comment."]
    assert samples[0].shown["incorrect"] == ["Yes."]
    assert [len(sample.requests) for sample in samples[1:]] == ([3] if choices else [])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x", 'expected an object with question, got "x"'),
        ({"correct": ["a"], "incorrect": ["b"]}, "expected an object with question"),
        ({"question": "q"}, "expected question with correct and incorrect answers, correct_answers"),
        ({"question": "q", "correct": "a; b", "incorrect": ["c"]}, '`correct`: expected a list of answers, got "a; b"'),
        ({"question": "q", "correct": ["a"], "incorrect": []}, "`incorrect`: expected a list of answers, got []"),
        (
            {"question": "q", "correct_answers": ["a"], "incorrect_answers": None},
            "`incorrect_answers`: expected a list",
        ),
        ({"question": "q", "mc1_targets": {"a": 1}, "mc2_targets": {"a": 1, "b": 0}}, "`mc1_targets`: expected each"),
        ({"question": "q", "mc2_targets": {"choices": ["a", "b"], "labels": [1]}}, "`mc2_targets`: expected each"),
        (
            {"question": "q", "mc2_targets": {"a": "yes", "b": "no"}},
            "`mc2_targets`: expected each choice with its label",
        ),
    ],
)
def test_a_question_that_cannot_be_asked_is_named(tmp_path: Path, row: Any, message: str) -> None:
    path = tmp_path / "mc_task.json"
    path.write_text(json.dumps([QUESTIONS[0], row]))
    with pytest.raises(UserError) as caught:
        suite("truthfulqa").load(_spec(data={"truthfulqa": str(path)}), text(), 1000)
    assert f"mc_task.json: item 2: truthfulqa: {message}" in str(caught.value)


HEADER = "Type,Question,Correct Answers,Incorrect Answers\n"


@pytest.fixture
def csv_limit() -> Iterator[None]:
    """Python's own limit of a cell, which is one for the process: reading training data widens it."""
    before = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((HEADER + "A,Ça va?,Oui,Non\n").encode("latin-1"), "t.csv: not UTF-8; save it as UTF-8"),
        ((HEADER + "A,Ça va?,Oui,Non\n").encode("utf-16"), "t.csv: not UTF-8; save it as UTF-8"),
        ((HEADER + 'A,"two\nlines",x,y\n\nA,Who?,Nobody,\n').encode(), "t.csv:5: truthfulqa: `incorrect`: expected"),
        ((HEADER + "A,Who?\n").encode(), "t.csv:2: truthfulqa: `correct`: expected a list of answers, got []"),
        ((HEADER + "A,,x,y\n").encode(), "t.csv:2: truthfulqa: expected an object with question"),
        (HEADER.replace(",", ";").encode(), "t.csv:1: expected columns Question, Correct Answers, Incorrect Answers"),
        (HEADER.encode(), "t.csv: truthfulqa: no questions"),
        (b"", "t.csv:1: expected columns Question"),
        ((HEADER + "A,q\0,x,y\n" + "A," + "x" * 200_000 + ",x,y\n").encode(), "t.csv:"),
    ],
)
def test_a_table_of_truthfulqa_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes, message: str, csv_limit: None
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        suite("truthfulqa").load(_spec(data={"truthfulqa": str(path)}), text(), 1000)
    assert message in str(caught.value)


def test_reference_answers_are_compared_by_each_measure(tmp_path: Path) -> None:
    prompts = [{"prompt": [{"role": "user", "content": "5 % of 300?"}], "reference": r} for r in ("It is 15.", None)]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(prompts))
    module = suite("reference")
    (sample,) = module.load(_spec(test_prompts=str(path)), text(), 1000).samples
    record = module.record(sample, [{"text": "It is 15.", "tokens": 4, "finished": True}])
    measured = {name.removeprefix("reference."): m.value for name, m in module.measures([record], 42).items()}
    expected = dict.fromkeys(("rougeL", "similarity", "style", "coverage", "numbers", "usefulness"), 1.0)
    assert measured == pytest.approx(expected)
    cut_off = replace(sample, id="x")
    assert module.record(cut_off, [{"text": "It is 15.", "tokens": 4, "finished": False}])["usefulness"] == 0.8


def test_plain_measures_know_figures_forms_and_repetition() -> None:
    assert numbers("about 1,000.0 and 7", "1000 or 8") == 0.5
    assert numbers("7", "none") is None
    assert numbers("The fund returned 5% in May.", "The fund returned -5% in May.") == 0.0
    assert usefulness("The fund returned 5% in May.", "The fund returned -5% in May.", True) == 0.5
    assert numbers("It earned 1,200,000 (3 deals, 1,2,3)", "1.2 million, 120万, deals 1 to 3") == 1.0
    assert coverage("债券是贷款", "债券") == 1.0
    assert style("One.\nTwo.", "") == 0.0
    assert style("- a\n- b", "- c\n- d") == 1.0
    once, over = "bonds pay interest twice", " ".join(["bonds pay interest twice"] * 9)
    assert usefulness(over, once, True) < 0.3 < usefulness(once, once, True)
    assert repeated_share("短") == 0.0


def test_similarities_are_of_any_script() -> None:
    assert trigram_cosine("债券", "债券") == pytest.approx(1.0)
    assert trigram_cosine("", "x") == 0.0


def test_every_suite_is_a_module_with_the_three_functions() -> None:
    for name in SUITES:
        assert all(callable(getattr(suite(name), part)) for part in ("load", "record", "measures")), name


def test_worker_names_all_mistakes_of_a_specification(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"models": [], "suites": ["perplexty"], "rows": "/nowhere", "engine": "tgi"}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    assert worker([str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "did you mean 'perplexity'" in lines[0]
    path.write_text(json.dumps(spec | {"engin": "vllm"}))
    assert worker([str(path)]) == 2
    assert "engin: unknown key; did you mean 'engine'?" in capsys.readouterr().err
