"""A package over LLaMA-Factory's lock for real: built, trained with, and told of by the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import Recipe, losses
from tests.real.test_llamafactory_backend import LORA, short

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_a_run_trains_in_the_layered_environment_and_says_so(
    recipe: Recipe, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cache of the test's own: a layer would change the environment of all other tests."""
    arguments = short("quickstart", tiny_model, "--set", LORA)
    plain = Path(recipe(*arguments, "--name", "plain").stdout.splitlines()[-1])
    monkeypatch.setenv("RECIPE_CACHE", str(tmp_path / "cache"))
    built = recipe("setup", "llamafactory", "--with", "iniconfig").stdout.splitlines()[-1]
    python = Path(built.removeprefix("llamafactory: "))
    assert list(python.parents[1].glob("lib/python*/site-packages/iniconfig"))
    assert recipe("setup", "llamafactory", "--check").stdout.splitlines()[-1] == "llamafactory: as locked"
    run = Path(recipe(*arguments, "--name", "layered").stdout.splitlines()[-1])
    told = json.loads((run / "run.json").read_text())
    (package,) = told["layers"]["iniconfig"]
    assert package == f"iniconfig=={told['versions']['iniconfig']}"
    assert told["attempts"][0]["argv"][0].startswith(str(python.parent))
    assert json.loads((plain / "run.json").read_text())["layers"] == {}
    assert losses(run) == losses(plain)
    recipe("setup", "llamafactory", "--without", "iniconfig")
    assert "nothing to resume" in recipe("resume", "layered", code=2).stderr
