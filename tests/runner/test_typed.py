"""What a verb says to type next can be typed: names stand in it as a shell reads them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.cli import main

NAMES = st.text("ab '\"$&;()`", min_size=1, max_size=6).filter(lambda text: text.strip() == text)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_the_commands_after_recipe_new(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    target: Path = tmp_path_factory.mktemp("one") / f"{name}.yaml"
    assert main(["new", "quickstart", "-o", str(target)]) in (0, None)
    said = capsys.readouterr().err.partition("then: ")[2]
    told = [["recipe", verb, str(target)] for verb in ("plan", "run")]
    assert [shlex.split(line) for line in said.splitlines()] == told
