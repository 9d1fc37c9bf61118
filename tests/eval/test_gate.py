"""The gate: its verdicts on differences that are known, how often it errs, and what settles what is open."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from eval.report.gate import Gate, gate
from eval.report.results import Entry
from eval.suites import suite
from recipes.errors import UserError
from runner.cli import main
from tests.eval.made import provenance, results
from tests.runner.test_compare import scored

TIMES = 300 if os.environ.get("RECIPE_THOROUGH") else 20


def model(name: str, losses: Sequence[float]) -> Entry:
    """A model by its loss on each row of ten tokens."""
    rows = [{"id": str(n), "nll": 10 * loss, "tokens": 10} for n, loss in enumerate(losses)]
    measured = suite("perplexity").measures(rows, 42)
    about = provenance(name, ("perplexity",), len(rows))
    return Entry(name=name, results=results(measured, about), records={"perplexity": rows})


def answering(name: str, scores: Sequence[float]) -> Entry:
    """A model by its score on each question of LongBench."""
    rows = [{"id": str(n), "subset": "qasper", "score": score, "pred": ""} for n, score in enumerate(scores)]
    about = provenance(name, ("longbench",), len(rows))
    measured = suite("longbench").measures(rows, 42)
    return Entry(name=name, results=results(measured, about), records={"longbench": rows})


def judged(shift: float, spread: float, n: int, seed: int = 0, repeat: int = 1) -> Gate:
    """A candidate whose loss is less by `shift`, more or less, than one of two nats; the margin is 0.02 nats."""
    chance = random.Random(seed)
    old = [chance.gauss(2.0, 0.3) for _ in range(n)]
    mean = sum(old) / n
    old = [loss - mean + 2.0 for loss in old] * repeat
    moved = [chance.gauss(shift, spread) for _ in range(n)] * repeat
    return gate(model("old", old), model("new", [a - b for a, b in zip(old, moved, strict=True)]))


@pytest.mark.parametrize(
    "shift,spread,n,verdict,state",
    [
        (0.1, 0.1, 60, "SHIP", "better"),
        (-0.1, 0.1, 60, "DON'T SHIP", "worse"),
        (0.0, 0.01, 60, "DON'T SHIP", "not worse"),  # nothing is gained, and that is known
        (0.0, 0.3, 20, "CAN'T TELL", "open"),
        (-0.005, 0.1, 60, "CAN'T TELL", "open"),
        (-0.005, 0.001, 60, "DON'T SHIP", "not worse"),  # worse, shown, and within the margin: nothing gained
    ],
)
def test_verdicts(shift: float, spread: float, n: int, verdict: str, state: str) -> None:
    found = judged(shift, spread, n)
    assert (found.verdict, found.metrics[0].state) == (verdict, state), found.reason
    assert len(found.metrics) == 1, "a loss and its perplexity are one test"


def test_it_errs_as_rarely_as_it_says() -> None:
    """A loss of just the margin is passed as none in one of forty; no difference is called one in one of twenty."""
    passed = sum(judged(-0.02, 0.05, 40, seed).metrics[0].state in ("better", "not worse") for seed in range(TIMES))
    called = sum(judged(0.0, 0.05, 40, seed).metrics[0].state in ("better", "worse") for seed in range(TIMES))
    assert passed <= 2 + TIMES // 30 and called <= 3 + TIMES // 15


@pytest.mark.parametrize("before,after", [(0.0, 1.0), (0.2, 0.9)])
@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_candidate_that_wins_every_sample_is_not_said_to_gain_nothing(
    before: float, after: float, better: str
) -> None:
    """Five samples, all better by as much: an interval of no width, and too few for the paired test."""
    if better == "higher":
        made = [answering(name, [score] * 5) for name, score in (("old", before), ("new", after))]
    else:
        made = [model(name, [loss] * 5) for name, loss in (("old", 2 + after), ("new", 2 + before))]
    found = gate(made[0], made[1])
    assert found.verdict == "CAN'T TELL" and "yet one may be" in found.reason
    assert gate(made[1], made[0]).verdict == "CAN'T TELL", "nor is a loss of five shown"


@pytest.mark.parametrize("seed", range(4))
def test_the_samples_that_are_needed_settle_it(seed: int) -> None:
    """The same samples again and again, as many as were said to be needed: the question is no longer open."""
    found = judged(0.0, 0.2, 25, seed).metrics[0]
    assert found.state == "open"
    if found.needed:
        assert found.needed > 25
        assert judged(0.0, 0.2, 25, seed, repeat=2 + found.needed * 11 // 250).metrics[0].state != "open"


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_it_errs_as_rarely_on_few_samples(n: int) -> None:
    passed = 0
    for seed in range(60):
        chance = random.Random(seed)
        lost = [0.02 + chance.gauss(0, 0.05) for _ in range(n)]
        found = gate(model("old", [2.0] * n), model("new", [2.0 + one for one in lost]))
        passed += found.metrics[0].state in ("better", "not worse")
    assert passed <= 6, "in one of forty, not in one of four"


def test_equal_samples_settle_it_once_three_in_so_many_are_no_loss() -> None:
    few, needed = [2.0, 2.1, 2.2], 300  # of which three are one in a hundred
    assert gate(model("old", few), model("new", few)).metrics[0].needed == needed
    many = few * (needed // 3)
    assert gate(model("old", many), model("new", many)).metrics[0].state == "not worse"


def test_samples_that_no_evaluation_has_are_not_asked_for() -> None:
    """A loss of all but the margin: the interval would have to shrink to nothing."""
    old, lost = [2.0, 2.0, 2.0], [0.01, 0.02, 0.03 - 1e-12]
    found = gate(model("old", old), model("new", [2.0 + one for one in lost])).metrics[0]
    assert found.state == "open" and found.needed is None


def test_no_number_of_samples_is_named_where_none_would_do() -> None:
    """A gain of nothing among differences of a nat: what is needed is no number."""
    found = gate(model("old", [0.0] * 5), model("new", [1.0, -1.0, 2.0, -2.0, -1e-300]))
    assert found.metrics[0].state == "open" and found.metrics[0].needed is None


def test_what_it_leaves_unanswered_is_not_its_advantage() -> None:
    old, new = model("old", [2.0 + n % 5 / 10 for n in range(40)]), model("new", [1.0 + n % 5 / 10 for n in range(40)])
    lost = {name: replace(measure, failures=10) for name, measure in new.metrics.items()}
    assert gate(old, new).verdict == "SHIP"
    found = gate(old, replace(new, results=replace(new.results, metrics=lost)))
    assert found.verdict == "DON'T SHIP" and "10 of 50 samples have no answer, before 0" in found.reason


def test_a_loss_whose_records_are_gone_is_not_passed_over() -> None:
    old, new = answering("old", [0.1] * 40), answering("new", [0.9] * 40)
    gone = model("new", [2.0] * 40).provenance.suites["perplexity"]
    about = replace(new.provenance, suites={**new.provenance.suites, "perplexity": replace(gone, records="hash")})
    found = replace(new, results=replace(new.results, provenance=about))
    assert gate(old, new).verdict == "SHIP"
    assert gate(old, found).verdict == "CAN'T TELL" and "the records of perplexity are gone" in gate(old, found).reason
    assert gate(old, found, metrics=["longbench"]).verdict == "SHIP"


def test_only_metrics_that_both_have_can_be_asked_for() -> None:
    one = model("old", [2.0, 2.1, 2.2])
    assert gate(one, one, metrics=["perplexity"]).verdict == "CAN'T TELL", "three samples that agree say little"
    many = model("old", [2.0, 2.1, 2.2] * 201)
    assert gate(many, many, metrics=["perplexity"]).verdict == "DON'T SHIP"
    with pytest.raises(UserError, match=r"no 'tset_loss' that both have; did you mean 'test_loss'"):
        gate(one, one, metrics=["tset_loss"])


def test_the_command_ends_with_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, shift in (("good", -1.0), ("bad", 0.5), ("same", 0.0)):
        scored(tmp_path, name, shift)
    runs = ["--runs-dir", str(tmp_path), "--metrics", "perplexity"]
    assert main(["gate", "good", "--baseline", "base", *runs]) == 0
    assert "SHIP: test_loss is +1" in capsys.readouterr().out
    assert main(["gate", "bad", "--baseline", "good", "--json", *runs]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "DON'T SHIP" and found["metrics"][0]["state"] == "worse"
    assert main(["gate", "good", "--baseline", "gone", *runs]) == 2
    with pytest.raises(SystemExit):
        main(["gate", "good", "--baseline", "base", "--margin", "2", *runs])
    assert "expected a number from 0 up to 1, such as 0.01; got '2'" in capsys.readouterr().err
