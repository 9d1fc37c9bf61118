"""Under ssh `launch.command` is one simple command: what stands behind its first one would not know its node."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes import UserError, load_text
from recipes.yaml_text import dump
from tests.conftest import MINIMAL

SIMPLE = st.sampled_from(["recipe", "/a/b/recipe", "apptainer exec --nv 'my image.sif' recipe", 'env "A=b c" recipe'])
BETWEEN = st.sampled_from([";", "&&", "||", "|", "&", "\n", " > log; "])


def load(command: str, place: str = "ssh") -> None:
    launch = {"on": place, "command": command, "ssh": {"hosts": ["a", "b"]}}
    load_text((MINIMAL + dump({"launch": launch})).encode(), Path("r.yaml"), sources_needed=False)


@given(SIMPLE, BETWEEN, st.sampled_from(["", " "]))
def test_more_than_one_command_is_refused(command: str, between: str, blank: str) -> None:
    load(command)
    with pytest.raises(UserError, match=r"launch\.command"):
        load(f"cd x{blank}{between}{blank}{command}")
    if "\n" not in between:
        load(f"cd x{blank}{between}{blank}{command}", "slurm")  # a job's variables reach all of it


@pytest.mark.parametrize("command", ["recipe 'x", 'cd "a; recipe', "recipe \\", "recipe # the newest", "#"])
@pytest.mark.parametrize("place", ["ssh", "slurm"])
def test_text_that_does_not_go_on_with_its_recipe_is_refused(command: str, place: str) -> None:
    with pytest.raises(UserError, match=r"launch\.command"):
        load(command, place)


@pytest.mark.parametrize("command", ["singularity run docker://a/b#c recipe", "module load x; recipe", "A='#' recipe"])
def test_text_that_goes_on_is_taken(command: str) -> None:
    load(command, "slurm")
