"""What people bring to a recipe from a shell or another reader of YAML is refused where it means something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recipes import UserError, load, load_text
from recipes.yaml_text import parse

RECIPE = """backend: llamafactory
method: sft
model: {path: MODEL}
data: {train: [{path: DATA}]}
"""
VARIABLES = st.sampled_from(["$X", "${X}", "$X/base", "${HOME}/models/a", "org/$X", "${X:-a}/b", "/models/$X"])


def problems(model: str = "org/model", data: str = "org/rows", *overrides: str) -> list[str]:
    source = RECIPE.replace("MODEL", repr(model)).replace("DATA", repr(data)).encode()
    try:
        load_text(source, Path("r.yaml").absolute(), overrides)
    except UserError as error:
        return [str(problem) for problem in error.problems]
    return []


@given(VARIABLES)
def test_a_variable_in_a_path_is_no_hub_id(path: str) -> None:
    for found in (problems(model=path), problems(data=path), problems(data=f"{path}/rows.jsonl")):
        assert len(found) == 1 and "variables are not put in" in found[0]


@pytest.mark.parametrize(
    "name", ["gpt2", "Qwen/Qwen3-4B", "01-ai/Yi-1.5-6B", "a_b/c.d-e", "bundled:smollm2-135m-instruct"]
)
def test_names_of_models_are_names(name: str) -> None:
    assert problems(model=name) == []


@given(st.from_regex(r"[-+]?[0-9_]{1,6}", fullmatch=True).filter(lambda text: text[-1] != "_"))
def test_a_number_that_readers_of_yaml_take_for_two_is_refused(text: str) -> None:
    """YAML 1.1, which PyYAML reads, has octal numbers with a leading 0; YAML 1.2 has not."""
    theirs = yaml.safe_load(f"a: {text}")["a"]
    try:
        ours = parse(f"a: {text}".encode(), "r.yaml").value["a"]
    except UserError as error:
        plain = str(error).rpartition("write ")[2]
        assert "may be octal" in str(error) and yaml.safe_load(plain) == int(text.replace("_", ""))
        assert text.lstrip("+-").startswith("0")
    else:
        assert ours == theirs or isinstance(ours, str) or isinstance(theirs, str)


@pytest.mark.parametrize("text", ["tuning:\n\ttype: lora\n", "data:\n  train:\n  \t- path: x\n", "\ta: 1\n"])
def test_a_tab_is_called_one(text: str) -> None:
    with pytest.raises(UserError, match="a tab begins this line; YAML is indented by blanks"):
        parse(text.encode(), "r.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training..epochs=3", "write it as field=value"),
        (".training.epochs=3", "write it as field=value"),
        ("training.=3", "write it as field=value"),
        ("data.train[-1].path=x", "data.train has 1 item, counted from [0]"),
        ("data.train[1].path=x", "data.train has 1 item, counted from [0]"),
        ("data.train[7]={path: x}", "data.train has 1 item, counted from [0]"),
        ("data.train.path=x", "train is a list: write data.train[0].path"),
    ],
)
def test_an_override_of_no_place_says_so_and_which(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load("quickstart", [override])
    assert message in str(caught.value) and str(caught.value).startswith(f"--set {override}")


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e400"])
@pytest.mark.parametrize("field", ["training.epochs", "training.learning_rate", "tuning.rank"])
def test_one_mistake_is_told_once(field: str, value: str) -> None:
    with pytest.raises(UserError) as caught:
        load("quickstart", [f"{field}={value}"])
    assert len(caught.value.problems) == 1 and "finite number" in str(caught.value)
