"""No secret stands in what a launch writes: by its variable's name or by its own shape, wherever it is in `launch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes import UserError, load_text
from recipes.yaml_text import dump
from tests.conftest import MINIMAL

LETTERS = st.text("abcdefghijkmnpqrstuvwxyz23456789", min_size=32, max_size=40)
TOKENS = st.builds(str.__add__, st.sampled_from(["hf_", "sk-", "ghp_", "glpat-"]), LETTERS)
PLACES: dict[str, Any] = {
    "launch.env.MINE": lambda text: {"env": {"MINE": text}},
    "launch.command": lambda text: {"command": f"env MINE={text} recipe"},
    "launch.slurm.sbatch[0]": lambda text: {"slurm": {"sbatch": [f"--export=MINE={text}"]}},
    "launch.slurm.srun[0]": lambda text: {"slurm": {"srun": [f"--export=MINE={text}"]}},
    "launch.skypilot.task.envs.MINE": lambda text: {"skypilot": {"task": {"envs": {"MINE": text}}}},
    "launch.skypilot.task.secrets.MINE": lambda text: {"skypilot": {"task": {"secrets": {"MINE": text}}}},
    "launch.skypilot.setup": lambda text: {"skypilot": {"setup": f"export MINE={text}"}},
}


def refused(launch: dict[str, Any]) -> list[str]:
    """The fields of `launch` that are said to hold a secret."""
    text = MINIMAL + dump({"launch": launch})
    try:
        load_text(text.encode(), Path("r.yaml"), sources_needed=False)
    except UserError as error:
        return [problem.field for problem in error.problems if "secret must not stand" in problem.text]  # type: ignore[union-attr]
    return []


@given(st.sampled_from(sorted(PLACES)), TOKENS, LETTERS)
def test_a_token_is_refused_wherever_it_stands(place: str, token: str, word: str) -> None:
    assert refused(PLACES[place](token)) == [place]
    assert refused(PLACES[place](word)) == []


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "PGPASSWORD", "DB_PWD", "GITHUB_PAT", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("place", ["launch.env.{}", "launch.skypilot.task.envs.{}", "launch.skypilot.task.secrets.{}"])
def test_a_variable_is_a_secret_by_its_name(name: str, place: str) -> None:
    launch = PLACES[place.format("MINE")]("plain")
    inner = launch if "env" in launch else launch["skypilot"]["task"]
    inner[next(iter(inner))] = {name: "plain"}
    assert refused(launch) == [place.format(name)]


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "NCCL_SOCKET_IFNAME", "SSH_AUTH_SOCK", "HF_TOKEN_PATH"])
def test_a_variable_that_is_none_is_taken(name: str) -> None:
    assert refused({"env": {name: "plain"}}) == []
