"""Comparisons and reports: paired tests, refusals, tables, and pages that stay whole whatever a model says."""

from __future__ import annotations

import base64
import csv
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.report import files
from eval.report import paired as paired_module
from eval.report.compare import compare, examples, recipe_differences, source
from eval.report.curves import Training, loss_label, training
from eval.report.files import write_report
from eval.report.history import COMBINED, combined_score, history, should_stop
from eval.report.html import html
from eval.report.paired import holm, paired, sign_test
from eval.report.plots import Curve, intervals, lines, ticks
from eval.report.replies import fitting, generated, shown
from eval.report.results import Entry, read_entry
from eval.report.tables import (
    FIELDS,
    Comparison,
    comparison_rows,
    evaluation_results,
    make_report,
    notes,
    number,
    summary,
)
from eval.spec import Spec
from eval.statistics import Measure
from eval.suites import suite
from recipes.errors import UserError
from recipes.formula import evaluate, names
from recipes.typed import to_json, write_typed
from tests.eval.fakes import text
from tests.eval.made import measure, provenance, results

EVIL = '<script>alert(1)</script> & "quotes" | `code` </div> ]]> \u2028 债券 https://example.org/x.png'


def _entry(name: str, shift: float = 0.0, n: int = 30, evil: str = "", **fields: Any) -> Entry:
    """A model whose losses are `shift` above those of a base, with replies."""
    rows = [{"id": str(i), "nll": 20.0 + i % 7 + shift * 10 + (i % 3) * 0.1 * shift, "tokens": 10} for i in range(n)]
    replies = [
        {"id": str(i), "prompt": [{"role": "user", "content": f"Question {i}? {evil}"}], "reference": "yes",
         "output": f"{name} says {i} {evil}", "tokens": 4, "finished": True, "repeated": 0.0}
        for i in range(5)
    ]  # fmt: skip
    reference = [r | {"rougeL": (i + (shift < 0)) / 9, "scorer": "rougeL"} for i, r in enumerate(replies)]
    measured = suite("perplexity").measures(rows, 42) | suite("generation").measures(replies, 42)
    rouge = replace(measured["generation.tokens"], value=sum(r["rougeL"] for r in reference) / 5)
    about = provenance(name, ("perplexity", "generation", "reference"), n)
    records = {"perplexity": rows, "generation": replies, "reference": reference}
    return Entry(name=name, results=results(measured | {"reference.rougeL": rouge}, about), records=records, **fields)


def _measured_otherwise(entry: Entry, metric: str, **fields: Any) -> Entry:
    """The entry with another measure of a metric."""
    changed = {**entry.metrics, metric: replace(entry.metrics[metric], **fields)}
    return replace(entry, results=replace(entry.results, metrics=changed))


def test_sign_flip_test_is_exact_for_few_samples() -> None:
    """Against all 2^n sign patterns, enumerated."""
    differences = [0.5, -0.1, 0.9, 0.3, 0.2]
    observed = abs(sum(differences))
    patterns = itertools.product((1, -1), repeat=5)
    expected = (
        sum(abs(sum(s * d for s, d in zip(p, differences, strict=True))) >= observed - 1e-12 for p in patterns) / 32
    )
    found = paired([0.0] * 5, differences)
    assert found.p == expected
    assert found.test == "exact sign-flip permutation test"
    assert (found.wins, found.losses, found.ties) == (4, 1, 0)


def test_drawn_signs_agree_with_all_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = [((7 * n) % 13 - 4) / 10 for n in range(14)]
    exact = paired([0.0] * 14, differences).p or 0
    assert paired([0.0] * 28, differences + [0.0] * 14).p == exact  # ties change nothing
    monkeypatch.setattr(paired_module, "EXACT_UP_TO", 5)
    drawn = paired([0.0] * 14, differences).p
    assert drawn != exact and drawn == pytest.approx(exact, abs=4 * (exact * (1 - exact) / paired_module.DRAWS) ** 0.5)
    larger = paired([0.0] * 60, [((7 * n) % 13 - 4) / 10 for n in range(60)])
    assert larger.p is not None and 0 < larger.p < 1
    assert larger == paired([0.0] * 60, [((7 * n) % 13 - 4) / 10 for n in range(60)])


def test_binary_outcomes_get_the_exact_sign_test() -> None:
    found = paired([0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1])
    assert found.test.startswith("exact sign test")
    assert found.p == pytest.approx(2 / 32)
    assert sign_test(0, 0) == 1.0
    assert sign_test(4000, 3000) < 1e-20


def test_equal_models_show_no_difference() -> None:
    found = paired([1.0, 2.0], [1.0, 2.0])
    assert (found.p, found.difference, found.ties) == (1.0, 0.0, 2)


def test_weights_make_the_difference_one_per_token() -> None:
    assert paired([10.0, 20.0], [8.0, 19.0], [5.0, 25.0]).difference == pytest.approx(-3 / 30)


def test_holm_orders_and_never_falls() -> None:
    assert holm([0.04, 0.01, None, 0.03]) == pytest.approx([0.06, 0.03, None, 0.06])


def test_two_names_of_the_same_values_are_one_test() -> None:
    """A perplexity is its test loss again: counted twice, every other metric would need a smaller p."""
    rows = {row.metric: row for row in compare(_entry("base"), _entry("tuned", shift=-1.0))}
    assert rows["perplexity"].p_holm == rows["test_loss"].p_holm
    tests = [row.paired.p for name, row in rows.items() if row.paired and name != "test_loss"]
    smallest = rows["perplexity"].paired
    assert smallest and smallest.p == min(p for p in tests if p is not None)
    assert rows["perplexity"].p_holm == pytest.approx(min(1.0, len(tests) * (smallest.p or 0)))


def test_samples_that_got_better_stand_first_whichever_way_is_better() -> None:
    base, tuned = _entry("base"), _entry("tuned", shift=-1.0)
    table = {row[0].split()[0]: row[6] for row in comparison_rows(Comparison(base, tuned, compare(base, tuned)))}
    assert table["perplexity"] == "30 / 0 / 0"  # lower is better, and all are lower
    assert table["reference.rougeL"] == "5 / 0 / 0"  # higher is better, and all are higher


def test_a_better_model_is_called_better() -> None:
    rows = {row.metric: row for row in compare(_entry("base"), _entry("tuned", shift=-1.0))}
    assert rows["perplexity"].verdict == "better"
    assert rows["perplexity"].paired is not None and rows["perplexity"].paired.losses == 30
    assert rows["generation.tokens"].verdict == "no difference shown"
    worse = {row.metric: row for row in compare(_entry("tuned", shift=-1.0), _entry("base"))}
    assert worse["test_loss"].verdict == "worse"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("suites", "perplexity", "data", "used"), "other", "perplexity: the samples differ"),
        (("suites", "perplexity", "settings", "max_length"), 7, "perplexity: max_length is None and 7"),
        (("model", "template"), "other", "the template differs"),
        (("model", "tokenizer"), "other", "the tokenizer differs"),
        (("engine", "engine"), "vllm", "engine is 'transformers' and 'vllm'"),
        (("engine", "dtype"), "bfloat16", "dtype is 'float32' and 'bfloat16'"),
    ],
)
def test_unlike_numbers_are_refused_unless_allowed(path: tuple[str, ...], value: Any, message: str) -> None:
    base, other = _entry("base"), _entry("other", shift=-1.0)
    about = to_json(other.provenance)
    place = about
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    other = replace(other, results=results(other.metrics, about))
    with pytest.raises(UserError, match=f"not measured alike: {re.escape(message)}"):
        compare(base, other)
    rows = compare(base, other, allow_unlike=True)
    assert any(message in reason for row in rows for reason in row.unlike)
    assert any(message in note for note in notes(make_report([base, other], unlike="show")))


@pytest.mark.parametrize("used", ["u", "other questions"])
def test_choices_are_compared_whichever_suite_asked_them(tmp_path: Path, used: str) -> None:
    """By truthfulqa, beside free questions, or by truthfulqa_mc alone: with equal data tested, with other refused."""
    targets = {"mc1_targets": {"No": 1, "Yes": 0}, "mc2_targets": {"No": 1, "Yes": 0}}
    file = tmp_path / "mc_task.json"
    file.write_text(json.dumps([{"question": f"Question {n}?", **targets} for n in range(8)]))

    def asked(name: str, likely: float) -> Entry:
        module = suite(name)
        loaded = module.load(Spec(models=(), suites=(), data={name: str(file)}), text(), 10_000)
        answers = [{"text": "No", "nll": likely}, {"text": "", "nll": 1.0}]
        rows = [{"id": s.id, **module.record(s, answers[: len(s.requests)])} for s in loaded.samples]
        about = provenance(name, (name,))
        about["suites"][name] |= {"data": dict(loaded.data), "settings": dict(loaded.settings)}
        return Entry(name=name, results=results(module.measures(rows, 42), about), records={name: rows})

    one, other = asked("truthfulqa", 0.5), asked("truthfulqa_mc", 2.0)
    if used == "u":
        tested = [row.paired for row in compare(one, other)]
        assert [row.n for row in tested if row] == [8, 8] and all(row and row.losses == 8 for row in tested)
        return
    suites = other.provenance.suites["truthfulqa_mc"]
    unlike = replace(suites, data={**suites.data, "used": used})
    about = replace(other.provenance, suites={"truthfulqa_mc": unlike})
    with pytest.raises(UserError, match="truthfulqa and truthfulqa_mc: the samples differ"):
        compare(one, replace(other, results=replace(other.results, provenance=about)))


def test_another_implementation_of_a_metric_is_unlike() -> None:
    base, other = _entry("base"), _measured_otherwise(_entry("other"), "perplexity", implementation="mean of means")
    with pytest.raises(UserError, match="implementation"):
        compare(base, other)


def test_models_without_a_common_metric_are_refused() -> None:
    base, other = _entry("base"), replace(_entry("other"), results=results({}))
    with pytest.raises(UserError, match="no metric in common"):
        compare(base, other)


def test_only_samples_that_both_answered_are_paired() -> None:
    base, other = _entry("base"), _entry("other", shift=-1.0)
    other.records["perplexity"][0] = {"id": "0", "error": "out of memory"}
    row = compare(base, other)[0]
    assert row.paired is not None and row.paired.n == 29


@pytest.mark.parametrize(
    "metric",
    ["perplexity", "test_loss", "preference.accuracy", "preference.margin", "truthfulqa.mc1", "truthfulqa.accuracy",
     "qmsum.rougeL", "longbench.qasper", "reference.style", "generation.repeated"],
)  # fmt: skip
def test_every_metric_has_its_samples(metric: str) -> None:
    assert source(metric) is not None


def test_counts_have_no_samples_of_their_own() -> None:
    assert source("preference.total") is None
    assert source("longbench.qasper_e.0-4k") is None


def test_examples_are_those_that_differ_most() -> None:
    base, tuned = _entry("base"), _entry("tuned", shift=-1.0)
    (found,) = shown(Comparison(base, tuned, compare(base, tuned)), 1)
    assert (found.metric, found.total, len(found.examples)) == ("reference.rougeL", 5, 2)
    assert all(one.difference == pytest.approx(1 / 9) and one.won for one in found.examples)
    assert all(
        one.replies == (("base", f"base says {one.id} "), ("tuned", f"tuned says {one.id} ")) for one in found.examples
    )


def test_replies_stand_beside_those_of_the_base_where_both_were_asked_the_same() -> None:
    base, tuned, alone = _entry("base"), _entry("tuned", shift=-1.0), _entry("alone", n=20)
    tuned.records["generation"][1] = {"id": "1", "prompt": base.records["generation"][1]["prompt"], "error": "too long"}
    tuned.records["generation"][2]["prompt"] = [{"role": "user", "content": "Another question?"}]
    pair, single = generated(make_report([base, tuned, alone], unlike="leave_out"), 3)
    assert (pair.title, pair.total, len(pair.examples)) == ("Replies of base and tuned", 4, 3)
    assert [one.id for one in pair.examples] == ["0", "1", "3"]
    assert pair.examples[0].replies == (("base", "base says 0 "), ("tuned", "tuned says 0 "))
    assert pair.examples[1].replies[1] == ("tuned", "(no answer: too long)")
    assert (single.title, single.total) == ("Replies of alone", 5)
    content = html(make_report([base, tuned, alone], unlike="leave_out"))
    assert "base says 0" in content and "tuned says 0" in content and "Another question" not in content


def test_training_figures_and_over_fitting() -> None:
    lines_ = [{"step": 1, "loss": 3.0, "memory_gb": 1.0}, {"step": 2, "loss": 2.0, "memory_gb": 2.5},
              *({"step": s, "eval_loss": v} for s, v in ((1, 2.5), (2, 2.0), (3, 2.4)))]  # fmt: skip
    found = training(lines_, seconds=7200.0)
    assert found.figures() == {
        "initial_train_loss": 3.0, "final_train_loss": 2.0, "best_eval_loss": 2.0, "final_eval_loss": 2.4,
        "total_steps": 3, "training_time_seconds": 7200.0, "training_time_hours": 2.0, "peak_memory_gb": 2.5,
    }  # fmt: skip
    assert found.overfits_from == 2 and found.tokens_per_s is None
    timed = [{"step": s, "loss": 3.0, "tokens": 100.0 * s, "step_time_s": 1.0 * s} for s in (1, 3)]
    assert training([*timed, {"step": 4, "loss": 2.0}]).tokens_per_s == 100.0
    supervised = [line | {"supervised_tokens_per_s": 30.0 + line["step"]} for line in timed]
    assert training(supervised).supervised_tokens_per_s == pytest.approx((31 * 1 + 33 * 3) / 4)
    assert found.mfu is None and training([line | {"mfu": 0.1 * line["step"]} for line in timed]).mfu == pytest.approx(
        0.25
    )
    assert training(lines_[:4]).overfits_from is None
    assert set(Training().figures().values()) == {None}


def test_evaluation_results_have_all_fields() -> None:
    found = evaluation_results([_entry("base")])["base"]
    wanted = {"model_name", "model_path", "initial_train_loss", "final_train_loss", "best_eval_loss", "final_eval_loss",
              "total_steps", "training_time_seconds", "training_time_hours", "generation_samples", *FIELDS}  # fmt: skip
    assert wanted <= set(found)
    assert found["preference_accuracy"] is None
    assert len(found["generation_samples"]) == 5
    assert all(isinstance(sample[key], str) for sample in found["generation_samples"] for key in ("prompt", "response"))


def test_summary_shows_values_intervals_failures_and_counts() -> None:
    base, tuned = _entry("base"), _measured_otherwise(_entry("tuned"), "perplexity", failures=2, n=28, ci95=None)
    rows = summary({"base": base.results, "tuned": tuned.results})
    assert rows[0] == ("metric", "base", "tuned", "n")
    assert rows[1][0] == "perplexity ↓" and rows[1][3] == "30/28"
    assert rows[1][1].endswith("]") and rows[1][2].endswith("(2 failed)")
    assert (number(None), number(3.0), number(0.123456), number(float("inf"))) == ("-", "3", "0.1235", "inf")


def test_every_metric_says_which_way_is_better_and_the_verdict_stands_beside_it() -> None:
    """Also where a task of lm-eval says so of its own metric, against the rule of the others."""
    base, tuned = _entry("base"), _entry("tuned", shift=-1.0)
    names = [row[0] for row in summary({"base": base.results})]
    assert names[1:5] == ["perplexity ↓", "test_loss ↓", "generation.tokens", "generation.finished"]
    assert names[5:] == ["generation.repeated ↓", "reference.rougeL ↑"]
    rows = comparison_rows(Comparison(base, tuned, compare(base, tuned)))
    assert rows[0][:2] == ("metric", "verdict") and rows[1][:2] == ("perplexity ↓", "better")
    metric = "lm_eval:mine.errors"
    about = provenance("base", ("lm_eval:mine",))
    about["suites"]["lm_eval:mine"]["settings"]["lower_is_better"] = [metric]
    assert summary({"base": results({metric: measure(0.5)}, about)})[1][0] == f"{metric} ↓"


def test_examples_begin_with_the_samples_that_got_better_whichever_way_that_is() -> None:
    metric, entries = "lm_eval:mine.errors", []
    for name, errors in (("base", (1.0, 5.0)), ("tuned", (4.0, 2.0))):
        about = provenance(name, ("lm_eval:mine",))
        about["suites"]["lm_eval:mine"]["settings"]["lower_is_better"] = [metric]
        records = [{"id": str(n), "subset": "", "errors": value} for n, value in enumerate(errors)]
        found = results({metric: measure(sum(errors) / 2)}, about)
        entries.append(Entry(name=name, results=found, records={"lm_eval:mine": records}))
    assert [(sample, difference) for sample, difference, *_ in examples(metric, *entries)] == [("1", -3.0), ("0", 3.0)]
    (found,) = shown(Comparison(*entries, compare(*entries)), 3)
    assert [(one.id, one.won) for one in found.examples] == [("1", True), ("0", False)]


def test_recipes_differ_by_field() -> None:
    entries = [_entry("a", recipe={"tuning": {"type": "lora", "rank": 8}, "method": "sft"}),
               _entry("b", recipe={"tuning": {"type": "full"}, "method": "sft"})]  # fmt: skip
    assert recipe_differences(entries) == {"tuning.rank": [8, None], "tuning.type": ["lora", "full"]}


class Page(HTMLParser):
    """The tags of a page, opened and closed, and its references."""

    VOID = frozenset({"meta", "wbr", "br", "img", "link", "line", "circle", "polyline"})

    def __init__(self, content: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [
            v or "" for k, v in attrs if k in ("src", "href", "srcset", "xlink:href", "onclick", "onload")
        ]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack[-1] == tag, (tag, self.stack[-5:])
        self.stack.pop()


@pytest.fixture
def evil_report(tmp_path: Path) -> Path:
    curve = training(
        [{"step": s, "loss": 3 - s / 5} for s in range(9)] + [{"step": s, "eval_loss": 2 + s} for s in (1, 5)]
    )
    entries = [
        _entry(f"base {EVIL}", evil=EVIL, recipe={"model": EVIL}),
        _entry(f"tuned {EVIL}", shift=-1.0, evil=EVIL, training=curve, recipe={"model": "b"}),
    ]
    entries[1] = _measured_otherwise(entries[1], "perplexity", failures=1)
    write_report(make_report(entries), tmp_path)
    return tmp_path


def test_the_page_is_whole_and_self_contained_whatever_a_model_says(evil_report: Path) -> None:
    content = (evil_report / "report.html").read_text(encoding="utf-8")
    page = Page(content)
    assert page.stack == []
    assert page.references == []
    assert not {"img", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert page.tags.count("svg") >= 3
    assert content.index("is better than") < content.index("<table")
    assert "width=device-width" in content
    assert "&lt;script&gt;" in content


def test_the_policy_allows_our_script_and_style_by_their_hashes_and_nothing_else(evil_report: Path) -> None:
    content = (evil_report / "report.html").read_text(encoding="utf-8")
    policies = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', content)
    allowed = dict(part.strip().split(" ", 1) for part in policies[0].split(";"))
    assert len(policies) == 1 and content.index(policies[0]) < content.index("<style>")
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", content, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert allowed.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert allowed == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_the_script_makes_no_markup_of_text() -> None:
    """Replies reach the page as text: what would parse or run a text has no place in its script."""
    script = (Path(files.__file__).parent / "page.js").read_text(encoding="utf-8")
    wrong = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|setHTML|eval\(|Function\(|srcdoc|fetch|XMLHttp"
    )
    assert not re.search(wrong, script) and "</" not in script and "<!--" not in script


def test_markdown_escapes_and_keeps_its_tables(evil_report: Path) -> None:
    content = (evil_report / "evaluation_report.md").read_text(encoding="utf-8")
    assert "<script>" not in content
    assert content.splitlines()[2].startswith("- tuned ") and " is better than base " in content.splitlines()[2]
    tables = re.findall(r"(?:^\|.*\|$\n?)+", content, re.MULTILINE)
    assert len(tables) >= 4
    for found in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in found.splitlines()}
        assert len(widths) == 1, found
    assert "over-fits" in content


def strict_json(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_report_json_holds_what_the_page_shows(evil_report: Path) -> None:
    found = strict_json(evil_report / "report.json")
    base, tuned = found["models"]
    (comparison,) = found["comparisons"]
    assert (comparison["first"], comparison["other"]) == (base, tuned)
    assert found["version"] == 1 and found["better"]["perplexity"] == "lower"
    assert [one["kind"] for one in found["verdicts"]] == ["better"]
    rows = {row["metric"]: row for row in comparison["metrics"]}
    assert rows["perplexity"]["verdict"] == "better" and rows["perplexity"]["paired"]["losses"] == 30
    assert rows["perplexity"]["b"] == found["models"][tuned]["metrics"]["perplexity"]["value"]
    assert found["models"][tuned]["training"]["train"][0] == [0, 3.0]
    assert comparison["examples"][0]["examples"][0]["replies"][1][1].startswith(f"{tuned} says ")
    assert EVIL in found["replies"][0]["examples"][0]["replies"][0][1]
    assert found["recipe_differences"] == {"model": [EVIL, "b"]} and found["recipes_of"] == [base, tuned]


def test_report_csv_has_a_line_for_each_model_and_metric(evil_report: Path) -> None:
    """Read back by the csv module, whatever the names hold: the numbers are those of report.json."""
    with (evil_report / "report.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    models = strict_json(evil_report / "report.json")["models"]
    wanted = [(name, metric) for name, model in models.items() for metric in model["metrics"]]
    assert [(row["model"], row["metric"]) for row in rows] == wanted
    for row in rows:
        told = models[row["model"]]["metrics"][row["metric"]]
        assert float(row["value"]) == told["value"]
        assert (int(row["n"]), int(row["failures"])) == (told["n"], told["failures"])
        interval = [float(row[end]) for end in ("ci_low", "ci_high") if row[end]]
        assert interval == (told["ci95"] or [])
    assert {row["better"] for row in rows} == {"lower", "higher", "neither"}


def test_losses_that_are_no_numbers_are_counted_and_break_no_file(tmp_path: Path) -> None:
    curve = training([{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan"), "eval_loss": float("inf")}])
    report = make_report([_entry("base"), _entry("tuned", training=curve)])
    write_report(report, tmp_path)
    assert "tuned: 2 losses or rewards are not finite; no curve holds them." in notes(report)
    assert strict_json(tmp_path / "report.json")["models"]["tuned"]["training"]["train"] == [[1, 2.0]]


def test_results_over_all_runs_are_json(evil_report: Path) -> None:
    found = json.loads((evil_report / "evaluation_results.json").read_text(encoding="utf-8"))
    assert [name.split()[0] for name in found] == ["base", "tuned"]
    assert all(entry["model_name"] == name for name, entry in found.items())


def test_entries_are_read_from_the_output_directory(tmp_path: Path) -> None:
    entry = _entry("base")
    write_typed(tmp_path / "results.json", entry.results)
    (tmp_path / "perplexity.jsonl").write_text("".join(json.dumps(r) + "\n" for r in entry.records["perplexity"]))
    assert read_entry(tmp_path, "base").records == {"perplexity": entry.records["perplexity"]}
    with pytest.raises(UserError, match="no results"):
        read_entry(tmp_path / "nowhere", "x")
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match="not the results of an evaluation"):
        read_entry(tmp_path, "x")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.31, 2.32), (-5.0, 130.0), (0.0, 0.0), (1e6, 3e6),
    (-9e307, 9e307), (-1.1e308, 1.1e308), (0.0, 5e-324)])  # fmt: skip
def test_ticks_are_few_and_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 1 <= len(found) <= 8
    assert all(low - 1e-9 <= t <= high + 1e-9 for t in found)


def test_plots_take_flat_and_empty_data() -> None:
    assert lines("x", [Curve("a", [])], "x", "y") == ""
    assert "polyline" in lines("x", [Curve("a", [(1, 2.0), (2, 2.0)])], "x", "y", [("m", 1)])
    assert intervals("x", []) == ""
    assert "circle" in intervals("x", [("a", 1.0, None)])


def test_a_single_validation_loss_is_a_point_that_tells_its_value() -> None:
    found = lines("x", [Curve("a, validation", [(7, 2.25)])], "step", "loss")
    assert "polyline" not in found and re.search(
        r"<g><title>a, validation, step 7: 2.25</title><circle [^>]*r=\"5\"", found
    )


def test_every_point_tells_its_value_and_of_very_many_the_lowest_and_the_last_do() -> None:
    points = [(float(n), 5.0 - n / 1000 - 3 * (n == 1234)) for n in range(3001)]
    found = lines("x", [Curve("a", points)], "step", "loss")
    told = re.findall(r"<title>a, step ([^<]*)</title>", found)
    assert 200 < len(told) < 310 and {"1234: 0.766", "3000: 2"} <= set(told)
    assert len(re.findall(r"[\d.]+,[\d.]+", found.partition('points="')[2].partition('"')[0])) == 3001
    shown = re.findall(r"<title>b, step ([^<]*)</title>", lines("x", [Curve("b", points[:40])], "step", "loss"))
    assert len(shown) == 40
    assert "<title>a: 1 [0.5, 2]</title>" in intervals("x", [("a", 1.0, (0.5, 2.0))])


@pytest.mark.parametrize(
    ("recipe", "label"),
    [
        ({"method": "sft"}, "loss (nats a token)"),
        ({"method": "pretrain"}, "loss (nats a token)"),
        ({"method": "dpo", "preference": {"loss": "sigmoid"}}, "DPO loss"),
        ({"method": "dpo", "preference": {"loss": "ipo"}}, "DPO loss (ipo)"),
        ({"method": "kto"}, "KTO loss"),
        ({"method": "orpo"}, "ORPO loss"),
        ({"method": "simpo"}, "SimPO loss"),
        ({"method": "grpo"}, "GRPO loss"),
        ({}, "loss"),
    ],
)
def test_losses_are_named_by_their_method(recipe: dict[str, Any], label: str) -> None:
    assert loss_label(recipe) == label


def test_losses_of_other_units_stand_in_other_plots() -> None:
    curve = training([{"step": s, "loss": 3 - s / 5} for s in range(5)])
    entries = [
        _entry("base"),
        _entry("a", recipe={"method": "sft"}, training=curve),
        _entry("b", recipe={"method": "pretrain"}, training=curve),
        _entry("c", recipe={"method": "dpo"}, training=curve),
    ]
    page = html(make_report(entries))
    plots = [plot for plot in re.findall(r"<svg.*?</svg>", page) if "over training steps" in plot]
    assert [re.findall(r"<text[^>]*>(\w), training</text>", plot) for plot in plots] == [["a", "b"], ["c"]]
    assert ">loss (nats a token)<" in plots[0] and "nats" not in plots[1] and ">DPO loss<" in plots[1]


def test_rewards_have_a_plot_of_their_own() -> None:
    curve = training(
        [{"step": 1, "loss": 0.1, "reward": 0.2}, {"step": 2, "loss": 0.1, "reward": 0.7, "eval_reward": 0.5}]
    )
    page = html(make_report([_entry("base"), _entry("a", recipe={"method": "grpo"}, training=curve)]))
    (plot,) = (plot for plot in re.findall(r"<svg.*?</svg>", page) if "mean reward over training steps" in plot)
    assert re.findall(r"<title>a, (\w+), step (\d): ([\d.]+)</title>", plot) == [
        ("training", "1", "0.2"), ("training", "2", "0.7"), ("validation", "2", "0.5"),
    ]  # fmt: skip
    assert "mean reward" not in html(make_report([_entry("base"), _entry("a", recipe={"method": "sft"})]))


def test_a_report_has_room_for_fewer_examples_of_each_of_many_metrics() -> None:
    def entry(name: str, metrics: int) -> Entry:
        rows = [
            {"id": f"{m}-{n}", "subset": f"s{m}", "score": float(n % 2) * (name == "tuned"), "pred": "x"}
            for m in range(metrics)
            for n in range(20)
        ]
        measures = {f"longbench.s{m}": measure(1.0) for m in range(metrics)}
        about = provenance(name, ("longbench",))
        return Entry(name=name, results=results(measures, about), records={"longbench": rows})

    counts = []
    for metrics in (1, 40, 200):
        report = make_report([entry("base", metrics), entry("tuned", metrics)])
        counts.append(fitting(report))
        assert sum(len(one.examples) for c in report.comparisons.values() for one in shown(c, counts[-1])) <= 4200
    assert counts == [50, 37, 7]


VALUES = {
    "truthfulqa.accuracy": 0.5,
    "qmsum.rougeL": 0.2,
    "truthfulqa.avg_max_score": 0.3,
    "longbench.repobench-p": 40.0,
    "longbench.2wikimqa": 10.0,
}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        (COMBINED, 1.0),
        ("longbench.repobench-p / 100 - 2 * (longbench.2wikimqa - 9.5)", -0.6),
        ("-qmsum.rougeL", -0.2),
        ("1e-1 + 0", 0.1),
        ("gone + 1", None),
        ("perplexity", None),
        ("1 / (qmsum.rougeL - 0.2)", None),
    ],
)
def test_formulas(formula: str, value: float | None) -> None:
    """A missing part makes the whole absent, and not 0."""
    assert evaluate(formula, VALUES) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    "formula", ["", "1 +", "(1", "1 2", "__import__('os')", "a ** b", "a, b", ")", "1 1", "a.b.c("]
)
def test_what_is_no_formula_is_named(formula: str) -> None:
    with pytest.raises(UserError, match="not understood"):
        names(formula)


def test_formula_names_its_metrics() -> None:
    assert names(COMBINED) == ["truthfulqa.accuracy", "qmsum.rougeL", "truthfulqa.avg_max_score"]


def _scored(value: float | None) -> dict[str, Measure]:
    return {"perplexity": measure(value)}


def test_history_keeps_the_earliest_of_equal_best() -> None:
    found = history([(30, _scored(2.0)), (10, _scored(1.0)), (20, _scored(2.0)), (40, _scored(None))], "perplexity")
    assert (found.best_step, found.best_score) == (20, 2.0)
    assert [(e.step, e.combined_score) for e in found.history] == [(10, 1.0), (20, 2.0), (30, 2.0), (40, None)]
    assert combined_score(_scored(1.0)) is None
    assert history([]).best_step is None


def test_the_best_of_negative_scores_is_the_one_nearest_to_nothing() -> None:
    found = history([(1, _scored(9.0)), (2, _scored(4.0)), (3, _scored(4.0)), (4, _scored(5.0))], "-perplexity")
    assert (found.best_step, found.best_score) == (2, -4.0)


@pytest.mark.parametrize(
    ("scores", "patience", "stop"),
    [
        ([1, 2, 2], 1, True),
        ([1, 2, 3], 1, False),
        ([3, 2, 1], 2, True),
        ([3, 2], 2, False),
        ([1, 2, 1], 0, False),
        ([], 1, False),
    ],
)
def test_early_stopping_waits_for_patience(scores: list[float], patience: int, stop: bool) -> None:
    found = history([(n, _scored(s)) for n, s in enumerate(scores)], "perplexity")
    assert should_stop(found, patience) is stop
