"""Metrics that need the evaluation environment's packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import inside

pytestmark = pytest.mark.real


def test_every_longbench_case_scores_as_officially(eval_python: Path, tmp_path: Path) -> None:
    """The whole table, with the Chinese cases; pytest is not there, so the table is walked by hand."""
    code = """
import json, sys
from pathlib import Path
from eval.metrics.longbench import row_score
def text(t): return t if isinstance(t, str) else (t["repeat"] * (t["length"] // len(t["repeat"]) + 1))[:t["length"]]
wrong = []
for c in json.loads(Path(sys.argv[1]).read_text()):
    score = row_score(c["subset"], text(c["pred"]), [text(a) for a in c["answers"]], c.get("all_classes"))
    if score != c["score"]:
        wrong.append((c["subset"], c.get("why"), score, c["score"]))
print(wrong)
"""
    cases = Path(__file__).parents[1] / "eval" / "longbench_cases.json"
    assert inside(eval_python, code, str(cases), cwd=tmp_path).strip() == "[]"
