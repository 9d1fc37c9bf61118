"""A number is a number: what is none is a failure with its reason, and no verdict is read out of a scale."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from eval.engines.ask import ask
from eval.engines.cache import AnswerCache
from eval.engines.requests import Sample, Score, Value
from eval.report.history import history
from eval.statistics import perplexity, ratio
from eval.suites.judge import score_of
from recipes.files import write_json
from recipes.formula import evaluate
from tests.eval.fakes import RuleEngine
from tests.eval.made import measure


class Broken(RuleEngine):
    """A model of which one weight is NaN."""

    def score(self, requests):  # type: ignore[no-untyped-def]
        for n, _ in enumerate(requests):
            yield [(n, {"nll": (math.nan, math.inf, 2.0)[n], "tokens": 1})]


def test_a_loss_that_is_no_number_is_a_failure_and_is_not_kept(tmp_path: Path) -> None:
    samples = [Sample(id=str(n), requests=(Score(ids=[1, n], labels=[-100, n]),)) for n in range(3)]
    answers = ask(samples, Broken(), AnswerCache(tmp_path / "answers.jsonl", {}), "x")
    assert [a[0].get("error", "")[:43] for a in answers] == ["the log-likelihood is not a finite number: "] * 2 + [""]
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 1


def test_a_score_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    class Scores(RuleEngine):
        def value(self, requests):  # type: ignore[no-untyped-def]
            yield [(n, {"value": (math.nan, -math.inf, -2.0)[n]}) for n, _ in enumerate(requests)]

    samples = [Sample(id=str(n), requests=(Value(ids=[1, n]),)) for n in range(3)]
    answers = ask(samples, Scores(), AnswerCache(tmp_path / "answers.jsonl", {}), "x")
    assert [a[0].get("error", "")[:33] for a in answers] == ["the score is not a finite number:"] * 2 + [""]


def test_a_perplexity_that_overflows_has_no_value_and_says_so() -> None:
    found = ratio([1000.0, 2000.0], [1.0, 1.0], implementation="exp", transform=perplexity)
    assert found.value is None and found.se is None and found.ci95 is None and found.n == 2
    assert "inf is no number to compare" in found.implementation


def test_what_is_no_number_is_no_best_step() -> None:
    steps = [(1, {"perplexity": measure(None)}), (2, {"perplexity": measure(9.0)})]
    assert history(steps, "-perplexity").best_step == 2
    assert evaluate("a / 1e-300 / 1e-300", {"a": 1.0}) is None


def test_results_are_strict_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": math.nan})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "x.json", {"a": 1.5})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1.5}


@pytest.mark.parametrize(
    "reply,score",
    [
        ("5", 5),
        (" 4.\n", 4),
        ("4/5", 4),
        ("Score: 3 out of 5", 3),
        ("On a scale from 1 to 5, I would give this answer a 5.", 5),
        ("The answer names 2 of 3 points.\n\nVerdict: 4", 4),
        ("<think>It could be a 1, or a 2.</think>\n5", 5),
        ("**Rating:** 2/5", 2),
        ("I give it a four.", 4),
        ("评分：5", 5),
        ("10", None),
        ("3.5", None),
        ("", None),
        ("I cannot judge that.", None),
        ("<think>Perhaps a 3", None),
        ("95%", None),
        ("0", None),
    ],
)
def test_a_verdict_is_read_from_the_end_of_a_reply(reply: str, score: int | None) -> None:
    assert score_of(reply) == score
