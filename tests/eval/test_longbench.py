"""The official LongBench metrics: a table of cases, and files in the official layout.

The scores in longbench_cases.json come from the packages that the official code uses (rouge, fuzzywuzzy, jieba).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.longbench import METRICS, SUBSETS, bucket, row_score
from eval.score import main, score_longbench
from recipes.errors import UserError
from recipes.lcs import lcs_length, lcs_words


def _unpacked(text: Any) -> str:
    if isinstance(text, str):
        return text
    unit, length = text["repeat"], text["length"]
    return str((unit * (length // len(unit) + 1))[:length])


CASES: list[dict[str, Any]] = [
    {**case, "pred": _unpacked(case["pred"]), "answers": [_unpacked(a) for a in case["answers"]]}
    for case in json.loads((Path(__file__).parent / "longbench_cases.json").read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['subset']}-{n}" for n, case in enumerate(CASES)])
def test_score_is_the_official_one(case: dict[str, Any]) -> None:
    assert row_score(case["subset"], case["pred"], case["answers"], case.get("all_classes")) == case["score"]


def test_every_metric_and_subset_has_its_cases() -> None:
    """At least 15 for each metric, and one for each of the 21 subsets."""
    counted = Counter(SUBSETS[case["subset"]] for case in CASES)
    assert set(counted) == set(METRICS)
    assert min(counted.values()) >= 15
    assert {case["subset"] for case in CASES} == set(SUBSETS)
    assert len(SUBSETS) == 21


def _lcs(x: str, y: str) -> int:
    rows = [0] * (len(y) + 1)
    for a in x:
        previous = 0
        for j, b in enumerate(y, 1):
            previous, rows[j] = rows[j], previous + 1 if a == b else max(rows[j], rows[j - 1])
    return rows[-1]


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_bit_parallel_length_is_that_of_the_table(x: str, y: str) -> None:
    assert lcs_length(x, y) == _lcs(x, y)
    assert len(lcs_words(x, y)) <= lcs_length(x, y)


def _write(directory: Path, subset: str, rows: list[dict[str, Any]]) -> None:
    directory.mkdir(exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (directory / f"{subset}.jsonl").write_text(text, encoding="utf-8")


def _row(pred: str, *answers: str, length: int = 0) -> dict[str, Any]:
    return {"pred": pred, "answers": list(answers), "all_classes": None, "length": length}


def test_a_directory_is_scored_by_subset(tmp_path: Path) -> None:
    """100 × the mean, to two places; files of other names are left alone."""
    _write(tmp_path, "qasper", [_row("yes", "yes"), _row("no", "yes"), _row("no", "yes")])
    _write(tmp_path, "passage_count", [_row("5 6", "5")])
    _write(tmp_path, "notes", [{"text": "x"}])
    assert score_longbench(tmp_path) == {"passage_count": 50.0, "qasper": 33.33}


def test_longbench_e_has_buckets_by_length(tmp_path: Path) -> None:
    lengths = (0, 3999, 4000, 7999)
    _write(tmp_path, "qasper", [_row("yes", "yes" if n % 2 else "no", length=n) for n in lengths])
    assert score_longbench(tmp_path, e=True) == {"qasper": {"0-4k": 50.0, "4-8k": 50.0, "8k+": None}}


@pytest.mark.parametrize(("length", "name"), [(3999, "0-4k"), (4000, "4-8k"), (7999, "4-8k"), (8000, "8k+")])
def test_buckets_end_where_the_official_ones_do(length: int, name: str) -> None:
    assert bucket(length) == name


def test_classes_are_those_of_the_last_row(tmp_path: Path) -> None:
    """As the official eval.py reads them."""
    rows = [_row("Number", "Number") | {"all_classes": c} for c in (["Other"], ["Number"])]
    _write(tmp_path, "trec", rows)
    assert score_longbench(tmp_path) == {"trec": 100.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"pred": 5, "answers": ["5"]}', "qasper.jsonl:1: `pred`: expected a text, got 5"),
        ('{"answers": ["5"]}', "qasper.jsonl:1: `pred`: expected a text, got nothing"),
        (
            '{"pred": "x", "answers": "x"}',
            'qasper.jsonl:1: `answers`: expected a list of texts, got "x"; write ["x"]',
        ),
        ('{"pred": ', "qasper.jsonl:1: not JSON"),
        ("", "no rows"),
    ],
)
def test_malformed_predictions_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "qasper.jsonl").write_text(line)
    with pytest.raises(UserError) as caught:
        score_longbench(tmp_path)
    assert message in str(caught.value)


def test_a_reference_without_a_paragraph_is_named(tmp_path: Path) -> None:
    _write(tmp_path, "passage_retrieval_en", [_row("3", "three")])
    with pytest.raises(UserError, match=r'passage_retrieval_en.jsonl:1: .* the reference "three" names no paragraph'):
        score_longbench(tmp_path)


def test_a_directory_without_predictions_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no <subset>.jsonl"):
        score_longbench(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        score_longbench(tmp_path / "nowhere")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, "qasper", [_row("yes", "yes")])
    assert main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"qasper": 100.0}
    assert main([str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize("module", ["eval", "eval.score", "eval.report", "eval.metrics.longbench"])
def test_scores_and_reports_need_no_heavy_package(module: str) -> None:
    """Nothing of a model's world is imported, so they start at once."""
    code = (
        f"import sys, importlib; importlib.import_module({module!r}); "
        "print([m for m in ('torch', 'transformers', 'numpy', 'jieba', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
