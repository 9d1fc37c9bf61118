"""The first sentences of a report, for entries made by hand: which model, by how much, how sure, at what cost."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from eval.report.curves import Training
from eval.report.results import Entry
from eval.report.tables import make_report
from eval.report.verdicts import verdicts
from eval.statistics import Measure
from eval.suites import suite
from tests.eval.made import measure, provenance, results

COST = Training(seconds=240.0, peak_memory_gb=1.2)


def model(
    name: str, loss: float = 2.0, *, right: int | None = None, n: int = 26, base: bool = False, **fields: Any
) -> Entry:
    """A model with this loss a token on n rows, and `right` good replies of n where that is given."""
    rows = [{"id": str(i), "nll": 10 * loss + i % 5 + loss * (i % 3) / 10, "tokens": 10} for i in range(n)]
    records: dict[str, list[dict[str, Any]]] = {"perplexity": rows}
    measures = dict(suite("perplexity").measures(rows, 42))
    if right is not None:
        scores = [float(i < right) for i in range(n)]
        records["truthfulqa"] = [{"id": str(i), "accurate": s} for i, s in enumerate(scores)]
        measures["truthfulqa.accuracy"] = measure(sum(scores) / n, n=n)
    about = provenance(name, tuple(records), n)
    about["run"] = {"tuning": "none" if base else "lora"}
    return Entry(name=name, results=results(measures, about), records=records, **fields)


def said(*entries: Entry, **fields: Any) -> list[tuple[str, str]]:
    return [(verdict.kind, verdict.text) for verdict in verdicts(make_report(entries, **fields))]


def with_measure(entry: Entry, metric: str, **fields: Any) -> Entry:
    changed: dict[str, Measure] = {**entry.metrics, metric: replace(entry.metrics[metric], **fields)}
    return replace(entry, results=replace(entry.results, metrics=changed))


def test_a_better_run_is_named_with_how_much_how_sure_and_at_what_cost() -> None:
    base, tuned = model("base", 2.5, base=True), model("tuned", 2.3, training=COST)
    a, b = base.value("perplexity"), tuned.value("perplexity")
    assert a and b
    moved = f"{a:.3g} → {b:.3g} (−{100 * (a - b) / a:.0f} %, p = 0.0002 over 26 samples)"
    cost = "for 4 min of training and 1.2 GB of memory"
    assert said(base, tuned) == [("better", f"tuned is better than base: perplexity {moved}, {cost}.")]


def test_a_worse_run_is_called_worse() -> None:
    ((kind, text),) = said(model("base", 2.3), model("tuned", 2.5))
    assert kind == "worse" and text.startswith("tuned is worse than base: perplexity") and "(+2" in text


def test_no_difference_shown_is_said_as_such() -> None:
    ((kind, text),) = said(model("base", right=13), model("tuned", right=14))
    assert kind == "none shown"
    assert text.startswith("No difference between tuned and base is shown: ") and "p = 1 over 26 samples" in text
    assert text.endswith(", nor on 1 other metric.") and "better" not in text and "worse" not in text


def test_better_here_and_worse_there_is_neither() -> None:
    ((kind, text),) = said(model("base", 2.5, right=20), model("tuned", 2.3, right=5))
    assert kind == "mixed"
    assert text.startswith("tuned is better than base on some metrics, perplexity ")
    assert ", and worse on others, truthfulqa.accuracy 0.769 → 0.192 (−75 %" in text


def test_a_metric_without_a_better_side_is_in_no_verdict() -> None:
    """Replies that got longer are neither: with these alone there is no verdict."""
    entries = []
    for name, tokens in (("base", 5), ("tuned", 50)):
        rows = [{"id": str(i), "tokens": tokens + i % 2, "finished": True, "repeated": 0.0} for i in range(26)]
        metrics = {"generation.tokens": measure(float(tokens))}
        about = provenance(name, ("generation",))
        entries.append(Entry(name=name, results=results(metrics, about), records={"generation": rows}))
    ((kind, text),) = said(*entries)
    assert kind == "not tested" and text.startswith("tuned is not tested against base: ")


def test_runs_stand_best_first_and_the_first_two_are_told_apart() -> None:
    base, good, best, bad = model("base", 2.5, base=True), model("b", 2.4), model("c", 2.2), model("d", 2.9)
    found = said(base, bad, good, best)
    assert [kind for kind, _ in found] == ["ranking", "better", "better", "worse"]
    assert [text.split()[0] for _, text in found[1:]] == ["c", "b", "d"]
    values = [f"{entry.value('perplexity'):.3g}" for entry in (best, good)]
    assert found[0][1].startswith(f"By perplexity, c ({values[0]}) ranks first of 4 models, before b ({values[1]}); ")
    assert found[0][1].endswith("the difference between the two is shown (p = 0.0002 over 26 samples).")


def test_a_lead_that_is_not_shown_is_said_to_be_none() -> None:
    same = model("c", 2.2)
    same.records["perplexity"][0]["nll"] -= 0.5
    same = replace(
        same, results=replace(same.results, metrics=suite("perplexity").measures(same.records["perplexity"], 42))
    )
    found = said(model("base", 2.5, base=True), model("b", 2.2), same)
    assert found[0][0] == "ranking" and "c (" in found[0][1]
    assert found[0][1].endswith("; the difference between the two is not shown (p = 1 over 26 samples).")


def test_a_run_beside_its_base_alone_is_not_ranked() -> None:
    assert [kind for kind, _ in said(model("base", base=True), model("tuned", 1.9))] == ["better"]


def test_runs_on_other_data_are_ranked_apart() -> None:
    """A loss on other rows is no place in the ranking, however low."""
    ours = [model("base", 2.5, base=True), model("b", 2.4), model("c", 2.2)]
    other = model("elsewhere", 0.5, n=20)
    found = said(*ours, other, unlike="leave_out")
    assert sum(kind == "ranking" for kind, _ in found) == 1
    assert "c (" in found[0][1] and "of 3 models" in found[0][1] and "elsewhere" not in "".join(t for _, t in found)


def test_what_was_measured_otherwise_says_so() -> None:
    ((_, text),) = said(model("base", 2.5), model("tuned", 2.3, n=20), unlike="show")
    assert text.endswith("; they were not measured alike.")


def test_samples_without_an_answer_are_no_advantage_that_stays_unsaid() -> None:
    tuned = with_measure(model("tuned", 2.3), "perplexity", n=16, failures=10)
    ((_, text),) = said(model("base", 2.5), tuned)
    assert text.endswith("; it leaves 10 of 26 samples without an answer, base 0.")


def test_a_model_alone_is_not_judged() -> None:
    ((kind, text),) = said(model("tuned", 2.3))
    assert kind == "not tested" and text.startswith("tuned was measured alone: perplexity ")
    others = [model("a"), model("b", n=20)]
    assert said(*others, unlike="leave_out") == [("not tested", "None of the 2 models can be compared with another.")]


@pytest.mark.parametrize(("seconds", "told"), [(40.0, "40 s"), (240.0, "4 min"), (7200.0, "2.0 h"), (None, "1.2 GB")])
def test_costs_stand_in_the_unit_that_suits_them(seconds: float | None, told: str) -> None:
    tuned = model("tuned", 2.3, training=Training(seconds=seconds, peak_memory_gb=1.2))
    assert f", for {told} of " in said(model("base", 2.5), tuned)[0][1]


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (12.345, 9.8, "12.3 → 9.8 (−21 %, "),
        (0.5, 0.5004, "0.5 → 0.5004 (+0.08 %, "),
        (289472.2, 256112.0, "289,472 → 256,112 (−12 %, "),
        (-0.5, 0.5, "-0.5 → 0.5 (p"),  # a share of what may be negative says nothing
        (0.0, 0.5, "0 → 0.5 (p"),
        (2.0, 2.0, "2 → 2 (p"),
    ],
)
def test_values_stand_in_the_digits_that_tell_them_apart(a: float, b: float, told: str) -> None:
    one, other = with_measure(model("base", 2.5), "perplexity", value=a), model("tuned", 2.3)
    assert f"perplexity {told}" in said(one, with_measure(other, "perplexity", value=b))[0][1]


def test_names_and_order_change_no_finding() -> None:
    """Asked the other way around, better is worse, with the same p."""
    one, other = model("a", 2.5, right=10), model("b", 2.3, right=25)
    ((there, text),), ((back, reverse),) = said(one, other), said(other, one)
    assert (there, back) == ("better", "worse")
    assert re.findall(r"p = [\d.]+", text) == re.findall(r"p = [\d.]+", reverse) != []
