"""What `recipe eval` makes of its options, before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes import UserError, load
from runner.cli import main
from runner.runs import rundir
from runner.scoring.models import EvalOptions, evaluate_model, models_of


@pytest.mark.parametrize("given", ["true", "false"])
def test_a_base_that_is_asked_for_is_scored_whatever_the_recipe_says(tmp_path: Path, given: str) -> None:
    (tmp_path / "other").mkdir()
    loaded = load("finance_lora", [f"eval.base={given}"])
    run = rundir.create(loaded, tmp_path, "a")
    asked = EvalOptions(base_model=str(tmp_path / "other"))
    models = models_of(run, loaded.recipe, asked, tmp_path / "out", print)
    assert [model.name for model in models] == ["base", "tuned"]
    assert models[0].path == str(tmp_path / "other") and models[1].base != models[0].path
    plain = models_of(run, loaded.recipe, EvalOptions(), tmp_path / "out", print)
    assert [model.name for model in plain] == (["base", "tuned"] if given == "true" else ["tuned"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EvalOptions(scorer="rougeL"), "--scorer: is of the suites truthfulqa, reference; asked: perplexity"),
        (EvalOptions(subsets=("trec",)), "--subsets: is of the suite longbench; asked: perplexity"),
        (EvalOptions(max_generation_samples=3), "--max-generation-samples: is of the suites truthfulqa, reference, "),
    ],
)
def test_an_option_of_no_suite_that_is_asked_is_refused(tmp_path: Path, options: EvalOptions, message: str) -> None:
    with pytest.raises(UserError, match="add one to --suites") as error:
        evaluate_model(str(tmp_path), None, options, print)
    assert message in str(error.value)


JUDGE = ["--judge-model", "m", "--judge-url"]


@pytest.mark.parametrize(
    "words,message",
    [
        (["one", "--data", "rows.jsonl"], "--data: of which suite? name it with --suites"),
        ([*JUDGE, "localhost:8000/v1"], "expected an address that begins with http:// or https://"),
        ([*JUDGE, "http://me:opensesame@host/v1"], "--judge-url: a password must not stand in it"),
    ],
)
def test_options_that_would_be_lost_or_kept_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and "opensesame" not in said
