"""A judge that cannot work is refused, and one that never answers is given up; the protocol: tests/real."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.spec import Judge
from eval.suites.judge import Patience, check
from recipes.errors import UserError
from runner.cli import main


@pytest.mark.parametrize("url", ["http://", "http://:80/v1", "http://x:port/v1", "http://x:99999/v1", "ftp://x/v1"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(UserError, match="expected an http"):
        check(Judge(base_url=url, model="m"))


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_no_header_can_hold_is_named(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("ODD_KEY", key)
    with pytest.raises(UserError, match="the value of ODD_KEY cannot be a key") as caught:
        check(Judge(base_url="http://x/v1", model="m", key_env="ODD_KEY"))
    assert key not in str(caught.value)


def test_only_failures_in_a_row_count(capsys: pytest.CaptureFixture[str]) -> None:
    """As many as all that are asked at once make with their retries; each reason is said once."""
    patience = Patience(Judge(base_url="http://x/v1", model="m", parallel=2, retries=2), "j")
    for _ in range(3):
        for _ in range(5):
            patience.failed("HTTP 503", timeout=False)
        patience.answered()
    assert not patience.given_up.is_set()
    assert capsys.readouterr().err == "eval: j: HTTP 503\n"
    for _ in range(8):
        patience.failed("HTTP 401", timeout=False)
    assert patience.given_up.is_set()
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["eval: j: HTTP 401", "eval: j: given up after 6 failures in a row, the last of them HTTP 401"]
    assert len(said) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suites", "perplexity"], "--judge-url: is of the suite reference; asked: perplexity; add one"),
        ([], "--judge-url: is of the suite reference; asked: perplexity; add one"),
        (["--suites", "perplexity", "generation"], "asked: generation, perplexity; add one to --suites"),
    ],
)
def test_a_judge_without_the_suite_that_asks_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    judge = ["--judge-url", "http://x/v1", "--judge-model", "m"]
    assert main(["eval", "--model", str(tmp_path), "--data", str(rows), *judge, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (Path.cwd() / "eval-results").exists()


def test_a_judges_key_without_a_judge_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--model", str(tmp_path), "--judge-key-env", "KEY"]) == 2
    assert "--judge-key-env belongs to a judge" in capsys.readouterr().err
