"""Measures of the user's own: beside the suite's, with failures counted, and never two of one name taken for alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.report.compare import compare
from eval.report.results import Entry
from eval.spec import Spec
from eval.suites import reference
from recipes.errors import UserError
from recipes.types import OwnMeasure
from tests.eval.fakes import text
from tests.eval.made import provenance, results

PLAIN = OwnMeasure(name="a", type="exact", path=None, pattern=None, target=None, better="higher")
OWN = """
def cites(reply, reference, row):
    assert row["prompt"][-1]["content"].startswith("Q") and row["reference"] == reference
    if "boom" in reply:
        raise ValueError("no source there")
    return float("source" in reply)
"""


def spec(tmp_path: Path, *own: OwnMeasure) -> Spec:
    (tmp_path / "checks.py").write_text(OWN)
    prompts = [
        {"prompt": [{"role": "user", "content": f"Q{n}"}], "reference": "yes", "held_out": True} for n in range(4)
    ]
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    return Spec(models=(), suites=("reference",), test_prompts=str(tmp_path / "prompts.json"), measures=own)


def scored(tmp_path: Path, replies: list[str], *own: OwnMeasure) -> Entry:
    """A model by its replies."""
    asked = spec(tmp_path, *own)
    loaded = reference.load(asked, text(), 1000)
    answers: list[dict[str, Any]] = [{"text": reply, "tokens": 3, "finished": True} for reply in replies]
    records = [
        {"id": sample.id, **reference.record(sample, [answer])}
        for sample, answer in zip(loaded.samples, answers, strict=True)
    ]
    records = reference.review(records, asked, tmp_path)
    about = provenance("m", ("reference",), len(records))
    about["suites"]["reference"]["settings"] = json.loads(json.dumps(loaded.settings))
    found = results(reference.measures(records, 42), about)
    return Entry(name="m", results=found, records={"reference": json.loads(json.dumps(records))})


def cites(tmp_path: Path, better: str = "higher") -> OwnMeasure:
    return replace(PLAIN, name="cites", type="function", path=f"{tmp_path}/checks.py:cites", better=better)  # type: ignore[arg-type]


def test_each_kind_measures_every_reply(tmp_path: Path) -> None:
    own = [
        cites(tmp_path),
        replace(PLAIN, name="right"),
        replace(PLAIN, name="error"),  # a record has such a key of its own
        replace(PLAIN, name="output"),
        replace(PLAIN, name="polite", type="regex", pattern="please"),
        replace(PLAIN, name="short", type="length", target=2),
    ]
    entry = scored(tmp_path, ["a source", "yes", "boom", "please, yes please"], *own)
    found = {name.partition(".")[2]: m for name, m in entry.metrics.items()}
    assert [(found["cites"].value, found["cites"].n, found["cites"].failures)] == [(1 / 3, 3, 1)]
    assert found["right"].value == 0.25 and found["polite"].value == 0.25
    assert found["short"].value == pytest.approx((1 + 0.5 + 0.5 + 0.5) / 4)
    assert found["error"].value == found["output"].value == found["right"].value and found["error"].failures == 0
    assert found["right"].ci95 and found["rougeL"].n == 4
    (failed,) = [record["failed"] for record in entry.records["reference"] if "failed" in record]
    assert "checks.py:5: ValueError: no source there" in failed["cites"]


def test_what_is_better_is_as_the_recipe_says_and_other_code_is_another_measure(tmp_path: Path) -> None:
    good, bad = ["a source"] * 4, ["none"] * 4
    for better, verdict in (("higher", 1.0), ("lower", 0.0)):
        one, other = (scored(tmp_path, replies, cites(tmp_path, better)) for replies in (bad, good))
        (row,) = [row for row in compare(one, other) if row.metric == "reference.cites"]
        assert row.better == better and row.paired and row.paired.difference == 1.0, verdict
    (tmp_path / "other").mkdir()
    changed = scored(tmp_path / "other", good, cites(tmp_path / "other"))
    assert compare(scored(tmp_path, bad, cites(tmp_path)), changed), "the same code elsewhere is the same measure"
    (tmp_path / "checks.py").write_text(OWN + "\n")
    loaded = reference.load(replace(spec(tmp_path), measures=(cites(tmp_path),)), text(), 1000)
    assert loaded.settings["measures"] == changed.provenance.suites["reference"].settings["measures"]


def test_a_function_that_is_not_there_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    gone = replace(cites(tmp_path), path=f"{tmp_path}/checks.py:cite")
    with pytest.raises(UserError, match=r"eval.measures: .*checks.py: no function 'cite'"):
        reference.load(spec(tmp_path, gone), text(), 1000)
