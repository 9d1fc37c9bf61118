"""Splicing: one metrics.jsonl over all attempts, unified names, no step twice."""

from __future__ import annotations

import json
from pathlib import Path

from adapters import backend
from runner.training.metrics import Splicer, cut, recover


def write(path: Path, *lines: dict[str, object] | str) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def splicer(tmp_path: Path, attempt: int = 1) -> Splicer:
    return Splicer(tmp_path / f"a{attempt}", tmp_path / "metrics.jsonl", backend("llamafactory"), lambda values: None)


def test_new_lines_are_appended_as_they_come(tmp_path: Path) -> None:
    follow = splicer(tmp_path)
    follow()
    write(tmp_path / "a1", {"step": 1, "loss": 2.0}, '{"step": 2, "lo')
    follow()
    assert steps(tmp_path / "metrics.jsonl") == [1]
    write(tmp_path / "a1", 'ss": 1.5}\n')
    follow()
    assert steps(tmp_path / "metrics.jsonl") == [1, 2]


def test_a_resume_repeats_no_step(tmp_path: Path) -> None:
    write(tmp_path / "a1", *({"step": n, "loss": float(n)} for n in range(1, 6)))
    splicer(tmp_path)()
    cut(tmp_path / "metrics.jsonl", 3)  # the newest whole checkpoint is of step 3
    write(tmp_path / "a2", *({"step": n, "loss": float(n)} for n in range(2, 8)))
    splicer(tmp_path, 2)()
    assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3, 4, 5, 6, 7]


def test_what_a_killed_runner_had_not_read_is_read_at_the_resume(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", {"step": 1, "loss": 1.0}, '{"step": 2, "lo')
    write(tmp_path / "a1", *({"step": n, "loss": float(n)} for n in range(1, 7)), '{"step": 7')
    assert recover(tmp_path / "metrics.jsonl", [tmp_path / "a1"], backend("llamafactory"), 4) == 4
    assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3, 4]


def test_an_evaluation_repeated_at_the_end_stands_once(tmp_path: Path) -> None:
    write(tmp_path / "a1", {"step": 2, "loss": 1.0}, {"step": 2, "eval_loss": 1.0}, {"step": 2, "eval_loss": 1.0})
    splicer(tmp_path)()
    assert steps(tmp_path / "metrics.jsonl") == [2, 2]


def test_a_line_torn_by_a_kill_is_written_again(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", {"step": 1, "loss": 1.0}, '{"step": 2, "l')
    cut(tmp_path / "metrics.jsonl", 5)
    assert steps(tmp_path / "metrics.jsonl") == [1]


def test_a_loss_that_is_no_number_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a1", {"step": 1, "loss": 1.0}, '{"step": 2, "loss": NaN}\n')
    follow = splicer(tmp_path)
    follow()
    assert follow.bad == "2"
