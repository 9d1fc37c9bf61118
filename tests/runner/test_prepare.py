"""What the user is told of the rows: every count, what was not used, and a warning where much is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.data.spec import Accounting
from runner.training.prepare import summary

COUNTS = Accounting(
    rows_in=100, trained=90, truncated_of_trained=0, validation=10, truncated_of_validation=0, dropped={},
    longest_dropped=0, tokens=5000, supervised_tokens=1000, longest=128, max_length=128, files={"d/a.jsonl": 100},
    left_out={}, unused_columns={}, sources={}, sha256={}, notes={}, model_notes=(), end_tokens=None,
    template_sha256="",
)  # fmt: skip


def told(**changed: Any) -> str:
    return "\n".join(summary(replace(COUNTS, **changed)))


def test_plain_data_are_told_in_two_lines() -> None:
    assert summary(COUNTS) == [
        "  100 rows = 90 trained + 10 held out",
        "  5,000 tokens to train on, 1,000 of them with loss; the longest has 128",
    ]


def test_thinking_with_loss_is_told() -> None:
    assert "1,000 of them with loss (300 of thinking); the longest has 128" in told(thought_tokens=300)


def test_rows_that_were_cut_are_among_the_trained() -> None:
    assert "100 rows = 90 trained (12 of them cut to max_length) + 10 held out" in told(truncated_of_trained=12)


def test_files_are_named_where_there_is_a_choice() -> None:
    assert "read a.jsonl, b.csv" in told(files={"d/a.jsonl": 50, "d/b.csv": 50})
    left = {"test": ["d/test.jsonl"], "dev": ["d/dev.jsonl"]}
    assert "read a.jsonl; not read, of other splits: test.jsonl (test), dev.jsonl (dev)" in told(left_out=left)
    assert "f7.jsonl and 3 more" in told(files={f"d/f{n}.jsonl": 1 for n in range(11)})


def test_what_was_not_used_is_named() -> None:
    assert "not used: id (90 rows), messages[].name (1,000 rows)" in told(
        unused_columns={"id": 90, "messages[].name": 1000}
    )


LONGEST = "(the longest has 900 tokens, the limit is 128)"


@pytest.mark.parametrize(
    "dropped,changed,advice",
    [
        ({"longer than max_length": 10}, {}, f"raise data.max_length {LONGEST}, or set data.overlong: truncate"),
        ({"prompt longer than max_length": 36}, {}, f"raise data.max_length {LONGEST}: cutting leaves no reply"),
        ({"malformed: no 'output'": 9, "nothing to train on": 1}, {}, "set data.on_bad_row: error"),
        ({"longer than max_length": 10}, {"supervised_tokens": 0}, "raise grpo.rollouts.max_prompt_length"),
    ],
)
def test_a_tenth_of_the_rows_gone_is_a_warning_that_says_what_to_change(
    dropped: dict[str, int], changed: dict[str, Any], advice: str
) -> None:
    shown = told(dropped=dropped, longest_dropped=900, **changed)
    assert f"warning: {sum(dropped.values())} of 100 rows are dropped" in shown
    assert advice in shown


def test_fewer_than_a_tenth_is_none() -> None:
    assert "warning" not in told(dropped={"longer than max_length": 9})
