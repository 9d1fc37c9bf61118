"""lm-eval's outcomes as records and measures, against sums written out; its own numbers stay as they are."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.compare import compare, source
from eval.report.results import Entry
from eval.suites import suite
from eval.suites.lm_eval.records import Told, metric_id, plain, told
from eval.suites.lm_eval.tasks import _unsafe
from recipes.suites import absolute_suite, records_file, suite_id, suites_of, task_file
from tests.eval import made

NAME = st.from_regex(r"\A[a-z][\w-]{0,9}(\.[\w-]{1,4})?\Z")


def sample(n: int, of_filter: str = "none", **metrics: Any) -> dict[str, Any]:
    return {
        "doc_id": n, "doc": {"q": n}, "target": "t", "arguments": [(f"prompt {n}", {})], "resps": [[f"reply {n}"]],
        "filtered_resps": [f"{of_filter} {n}"], "filter": of_filter, "metrics": list(metrics), "doc_hash": f"d{n}",
        "prompt_hash": f"p{n}", "target_hash": f"t{n}", **metrics,
    }  # fmt: skip


def outcome(
    samples: dict[str, list[dict[str, Any]]],
    results: dict[str, dict[str, Any]],
    kind: str = "generate_until",
    **more: Any,
) -> dict[str, Any]:
    return {
        "samples": samples,
        "results": results,
        "versions": dict.fromkeys(samples, 1.0),
        "configs": {task: {"output_type": kind} for task in samples},
        **more,
    }


def entry(name: str, found: Told, suite_name: str, lower: tuple[str, ...] = ()) -> Entry:
    about = made.provenance(name, (suite_name,), len(found.records))
    about["suites"][suite_name]["settings"]["lower_is_better"] = list(lower or found.lower)
    return Entry(name=name, results=made.results(found.measures, about), records={suite_name: found.records})


def paired_difference(metric: str, a: Told, b: Told, suite_name: str, lower: tuple[str, ...] = ()) -> Any:
    one, other = entry("a", a, suite_name, lower), entry("b", b, suite_name, lower)
    (row,) = [row for row in compare(one, other) if row.metric == metric]
    return row


def of_shares(values: list[int], key: str = "exact_match") -> Told:
    right = {
        f"{key},none": sum(values) / len(values),
        f"{key}_stderr,none": 0.1,
        "alias": "x",
        "sample_len": len(values),
    }
    return told(
        "lm_eval:x", outcome({"x": [sample(n, **{key: v}) for n, v in enumerate(values)]}, {"x": right}), "0", 1
    )


@given(st.lists(st.integers(0, 1), min_size=2, max_size=9), st.data())
def test_a_mean_is_tested_sample_by_sample(values: list[int], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.integers(0, 1), min_size=len(values), max_size=len(values)))
    a, b = of_shares(values), of_shares(others)
    measure = a.measures["lm_eval:x.exact_match"]
    assert measure.value == sum(values) / len(values) and measure.n == len(values)
    assert measure.ci95 and measure.ci95[0] <= (measure.value or 0) <= measure.ci95[1]
    row = paired_difference("lm_eval:x.exact_match", a, b, "lm_eval:x")
    assert row.paired.n == len(values) and row.better == "higher"
    assert row.paired.difference == pytest.approx(statistics.fmean(others) - statistics.fmean(values))


def test_a_task_may_say_that_lower_is_better() -> None:
    said = outcome(
        {"x": [sample(n, mistakes=float(n)) for n in range(4)]}, {"x": {"mistakes,none": 1.5}},
        higher_is_better={"x": {"mistakes": False}},
    )  # fmt: skip
    found = told("lm_eval:x", said, "0", 1)
    assert found.lower == ("lm_eval:x.mistakes",)
    assert paired_difference("lm_eval:x.mistakes", found, found, "lm_eval:x").better == "lower"


def test_each_filter_is_a_metric_of_one_record() -> None:
    both = [sample(n, f, exact_match=int(n % 2 == (f == "strict"))) for f in ("strict", "loose.1") for n in range(4)]
    said = outcome({"x": both}, {"x": {"exact_match,strict": 0.5, "exact_match,loose.1": 0.5}})
    found = told("lm_eval:x", said, "0", 1)
    assert found.measures.keys() == {"lm_eval:x.exact_match,strict", "lm_eval:x.exact_match,loose_1"}
    assert len(found.records) == 4
    assert found.records[0]["filtered"] == {
        "strict": ["strict 0"],
        "loose.1": ["loose.1 0"],
    }
    assert [r["exact_match,strict"] for r in found.records] == [0, 1, 0, 1]
    assert [r["exact_match,loose_1"] for r in found.records] == [1, 0, 1, 0]
    assert found.records[2]["output"] == "reply 2"


LOSSES = [(-12.0, 5), (-30.5, 8), (-3.25, 2)]
SUM = math.fsum(a for a, _ in LOSSES) / sum(b for _, b in LOSSES)


@pytest.mark.parametrize(
    "name,value",
    [("word_perplexity", math.exp(-SUM)), ("byte_perplexity", math.exp(-SUM)), ("bits_per_byte", -SUM / math.log(2))],
)
def test_losses_are_compared_in_nats_a_word_or_byte(name: str, value: float) -> None:
    def made_of(shift: float, number: float) -> Told:
        rows = [sample(n, **{name: (a - shift * b, b)}) for n, (a, b) in enumerate(LOSSES)]
        for row in rows:
            row["resps"] = [[-1.0]]
        return told("lm_eval:x", outcome({"x": rows}, {"x": {f"{name},none": number}}, "loglikelihood_rolling"), "0", 1)

    a = made_of(0, value)
    in_bits = name == "bits_per_byte"
    b = made_of(0.5, value + 0.5 / math.log(2) if in_bits else value * math.exp(0.5))
    measure = a.measures[f"lm_eval:x.{name}"]
    assert measure.value == value and measure.ci95 and measure.ci95[0] < value < measure.ci95[1]
    row = paired_difference(f"lm_eval:x.{name}", a, b, "lm_eval:x")
    assert row.paired.difference == pytest.approx(0.5) and row.better == "lower"
    assert not source(f"lm_eval:x.{name}").values.examples  # type: ignore[union-attr]


def test_what_its_samples_do_not_give_keeps_lm_evals_error_and_has_no_paired_test() -> None:
    """An F1 of pairs, and a median, which is no mean: their samples would tell of another number."""
    rows = [sample(n, f1=(n % 2, 1), middle=float(n * n)) for n in range(5)]
    said = outcome(
        {"x": rows}, {"x": {"f1,none": 0.7, "f1_stderr,none": 0.1, "middle,none": 4.0, "middle_stderr,none": "N/A"}}
    )
    found = told("lm_eval:x", said, "0", 1)
    f1, middle = found.measures["lm_eval:x.f1"], found.measures["lm_eval:x.middle"]
    assert (f1.value, f1.se, f1.n) == (0.7, 0.1, 5) and f1.ci95 == pytest.approx((0.504, 0.896), abs=1e-3)
    assert (middle.value, middle.se, middle.ci95) == (4.0, None, None)
    for metric in found.measures:
        assert paired_difference(metric, found, found, "lm_eval:x").paired is None
    assert found.records[1]["parts of f1"] == [1, 1]


def test_a_group_is_paired_where_its_number_is_the_mean_of_all_samples() -> None:
    """Not where it is the mean of its tasks' means; each task has its own number and test."""
    samples = {"small": [sample(0, acc=1.0)], "large": [sample(n, acc=float(n == 0)) for n in range(3)]}
    results = {"small": {"acc,none": 1.0}, "large": {"acc,none": 1 / 3}}
    for value, tested in ((0.5, True), (2 / 3, False)):
        said = outcome(
            samples, {**results, "g": {"acc,none": value, "acc_stderr,none": 0.2}}, group_subtasks={"g": [*samples]}
        )
        found = told("lm_eval:g", said, "0", 1)
        assert [*found.measures] == ["lm_eval:g:small.acc", "lm_eval:g:large.acc", "lm_eval:g.acc"]
        assert found.measures["lm_eval:g.acc"].value == value and found.measures["lm_eval:g.acc"].n == 4
        assert bool(paired_difference("lm_eval:g.acc", found, found, "lm_eval:g").paired) == tested
        of_task = paired_difference("lm_eval:g:large.acc", found, found, "lm_eval:g").paired
        assert of_task.n == 3 and found.measures["lm_eval:g:large.acc"].n == 3


def test_the_choice_of_the_greatest_likelihood_is_the_output() -> None:
    row = sample(0, acc=1.0)
    row |= {"arguments": [("Q:", " a"), ("Q:", " b")], "resps": [[(-3.0, False)], [(-1.5, True)]]}
    (record,) = told("lm_eval:x", outcome({"x": [row]}, {"x": {"acc,none": 1.0}}, "multiple_choice"), "0", 1).records
    assert record["output"] == " b" and [c["loglikelihood"] for c in record["choices"]] == [-3.0, -1.5]


@given(NAME, NAME, st.sampled_from(["acc", "exact_match,strict-match", "f1,none_1"]))
def test_a_metric_names_its_suite(group: str, task: str, key: str) -> None:
    name = f"lm_eval:{group}"
    for metric, subset in ((metric_id(name, group, group, key), ""), (metric_id(name, task, "", key), task)):
        assert suites_of(metric) == (name,)
        values = suite(name).values(metric)
        assert values and values.subset == subset and values.key.removeprefix("task ") == key


def test_a_task_file_is_known_by_its_own_name(tmp_path: Path) -> None:
    assert [task_file(s) for s in ("lm_eval:gsm8k", "perplexity", "lm_eval:a/b", "lm_eval:b.yaml")] == [
        None,
        None,
        "a/b",
        "b.yaml",
    ]
    assert absolute_suite("lm_eval:my tasks/b c.yaml", tmp_path) == f"lm_eval:{tmp_path}/my tasks/b c.yaml"
    assert absolute_suite("lm_eval:gsm8k", tmp_path) == "lm_eval:gsm8k" == suite_id("lm_eval:gsm8k")
    assert suite_id("lm_eval:/x/b c.yaml") == "lm_eval:b-c" and records_file("lm_eval:b-c") == "lm_eval.b-c.jsonl"


def test_values_that_json_has_not_are_written_as_text() -> None:
    class Number:
        def item(self) -> float:
            return 1.5

    assert plain({1: (Number(), {2}, Path("a")), "b": [True, None]}) == {"1": [1.5, [2], "a"], "b": [True, None]}


def test_code_is_found_wherever_a_task_of_it_stands() -> None:
    """By name, in a group, in a tag, and in a group's own change of a task; without loading any."""

    def of(kind: str, tags: tuple[str, ...] = (), **cfg: Any) -> SimpleNamespace:
        return SimpleNamespace(kind=SimpleNamespace(name=kind), cfg=cfg, tags=set(tags))

    index = SimpleNamespace(
        task_index={
            "safe": of("TASK", ("tagged",), task="safe"), "mbpp": of("TASK", task="mbpp", unsafe_code=True),
            "code": of("GROUP", task=["safe", "inner"]), "inner": of("GROUP", task=[{"task": "mbpp", "limit": 1}]),
            "tagged": of("TAG", ("safe", "mbpp")),
        }
    )  # fmt: skip
    found = {name: [*_unsafe(name, index)] for name in ("safe", "mbpp", "code", "inner", "tagged", "gone")}
    assert found == {"safe": [], "mbpp": ["mbpp"], "code": ["mbpp"], "inner": ["mbpp"], "tagged": ["mbpp"], "gone": []}
    assert [*_unsafe({"task": "mine", "unsafe_code": True}, index)] == ["mine"]
