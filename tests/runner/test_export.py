"""`recipe export`: what is refused before anything is merged or quantized, and what the card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.spec import Calibrated, Quantized
from recipes import UserError, load
from runner.cli import main
from runner.runs import rundir
from runner.runs.rundir import Run
from runner.scoring.export import Exported, How, card, check


def run_of(
    directory: Path, recipe: str = "quickstart", *overrides: str, held_out: bool = True, rows: bool = True
) -> Run:
    """A run that has succeeded, with the data that it would have."""
    run = rundir.create(load(recipe, overrides), directory, "r")
    run.update(state="succeeded")
    (run.path / "data/train.jsonl").write_text("{}\n")
    if held_out:
        (run.path / "data/validation.jsonl").write_text("{}\n")
    if rows:
        (run.path / "data/tokenized/train").mkdir(parents=True)
    return run


def refused(run: Run, scheme: str, **how: object) -> str:
    with pytest.raises(UserError) as error:
        check(run, run.path / "exported" / scheme, How(scheme=scheme, **how))  # type: ignore[arg-type]
    return str(error.value)


def test_an_export_needs_rows_to_look_at_and_to_compare_on(tmp_path: Path) -> None:
    run = run_of(tmp_path, held_out=False, rows=False)
    assert "tokenized/train is not there, and awq is calibrated on the training rows; use fp8" in refused(run, "awq")
    assert "no rows were held out to compare perplexity on" in refused(run, "fp8")
    check(run, run.path / "exported/fp8", How(scheme="fp8", verify=False))
    check(run, run.path / "exported/hf", How(scheme="hf", verify=False))


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    check(run, run.path / "exported/int8", How(scheme="int8"))
    (run.path / "exported/int8").mkdir(parents=True)
    assert "exported/int8 is there already; give another --output, or remove it" in refused(run, "int8")


def test_rewards_have_no_perplexity(tmp_path: Path) -> None:
    run = run_of(tmp_path, "grpo_sums", "eval.suites=[]", rows=False)
    assert "grpo rows have no perplexity; name --suites, or give --fast" in refused(run, "gptq")
    check(run, run.path / "exported/gptq", How(scheme="gptq", verify=False))  # its prompts are calibrated on
    check(run, run.path / "exported/gptq", How(scheme="gptq", suites=("truthfulqa_mc",)))


@pytest.mark.parametrize(
    "given,said",
    [
        (["--to", "fp4"], "invalid choice: 'fp4'"),
        ([], "the following arguments are required: --to"),
        (["--to", "fp8", "--margin", "2"], "expected a number from 0 up to 1, such as 0.01; got '2'"),
        (["--to", "awq", "--calibration-rows", "0"], "expected a whole number of at least 1, got '0'"),
        (["--to", "fp8", "--suites", "perplexit"], "did you mean 'perplexity'?"),
    ],
)
def test_arguments_that_will_not_do(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "r", *given])
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_run_that_is_not_there_or_has_not_ended_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "nothing", "--to", "fp8", "--runs-dir", str(tmp_path)]) == 2
    run = run_of(tmp_path)
    run.update(state="failed")
    assert main(["export", "r", "--to", "fp8", "--runs-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "r has state failed: name a step, r:STEP" in said
    assert not list(run.path.glob("export*"))


def test_an_adapter_of_no_run_is_sent_to_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "x"}))
    assert main(["export", str(tmp_path / "mine"), "--to", "fp8"]) == 2
    assert "has no training rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verdict,said",
    [
        ("good", "As good as before"),
        ("not good", "NOT GOOD: do not use it"),
        ("can't tell", "NOT SHOWN"),
        ("not verified", "NOT VERIFIED"),
    ],
)
def test_the_card_says_first_whether_it_may_be_used(verdict: str, said: str) -> None:
    looked = Calibrated(rows=20, of=60, tokens=1234, seed=42, sha256="0")
    quantized = Quantized(
        scheme="awq", layers=14, kept=("lm_head",), group_size=64, calibrated=looked,
        versions={"llmcompressor": "0.13.0"},
    )  # fmt: skip
    text = card(Exported(
        scheme="awq", verdict=verdict, reason="because", run="r", model="acme/tiny", step=8, source="/s",  # type: ignore[arg-type]
        source_hash="a", hash="b", bytes_before=2_000_000, bytes_after=500_000, quantized=quantized, verified=None,
        version="0.1.0",
    ))  # fmt: skip
    heading, first, *rest = text.split("\n\n")
    assert heading == "# r, awq" and said in first and "because" in first
    whole = "\n".join(rest)
    assert "2.0 MB before, 0.5 MB now" in whole and "up to step 8" in whole
    assert "llm-compressor 0.13.0, calibrated on 20 of its training rows (1,234 tokens)" in whole
