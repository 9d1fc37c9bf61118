"""The loader: every mistake is named with its place, all at once, and good recipes mean what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.contract import Topology
from recipes import UserError, load, load_text, trainings
from recipes.paths import TEMPLATES
from recipes.yaml_text import dump, parse
from runner.training.planning import check

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))
Write = Callable[[str], Path]
MINIMAL = b"backend: llamafactory\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"


def mistakes(text: bytes | str, *overrides: str) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(UserError) as caught:
        load_text(data, Path("r.yaml"), overrides)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("file", BAD, ids=lambda p: p.stem)
def test_a_bad_recipe_gives_the_message_in_its_first_line(file: Path) -> None:
    expected = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expect: ")
    with pytest.raises(UserError) as caught:
        check(load(file), Topology())
    messages = [str(problem) for problem in caught.value.problems]
    assert any(m.startswith(str(file)) and expected in m for m in messages), messages


def test_all_mistakes_of_a_file_come_at_once() -> None:
    text = "backend: lamafactory\nmethod: sft\nmodel: {pth: a/b}\ndata: {train: [], max_length: -1}\n"
    fields = {message.split(":")[3].strip() for message in mistakes(text)}
    assert fields == {"backend", "model.path", "model.pth", "data.train", "data.max_length"}


@pytest.mark.parametrize("text,value", [("1e-5", 1e-5), ("1E-5", 1e-5), ("1.e-5", 1e-5), (".00001", 1e-5), ("1", 1.0)])
def test_a_number_in_any_notation_is_a_number(text: str, value: float) -> None:
    recipe = load_text(MINIMAL + f"training: {{learning_rate: {text}}}\n".encode(), Path("r.yaml")).recipe
    assert recipe.training.learning_rate == value


def test_yaml_1_2_words_are_words() -> None:
    """`no` and `on` are words, as in YAML 1.2, and not booleans."""
    recipe = load_text(MINIMAL + b"description: no\n", Path("r.yaml")).recipe
    assert recipe.description == "no"


def test_a_yaml_bomb_is_refused_quickly() -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{n}: &{n} [{','.join([f'*{p}'] * 9)}]" for p, n in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "aliases expand" in mistakes("\n".join(lines))[0]


def test_an_alias_to_itself_is_refused() -> None:
    assert mistakes("a: &a [*a]")


@pytest.mark.parametrize("levels", [41, 900, 100_000])
def test_deep_nesting_is_refused_at_its_place(levels: int) -> None:
    """By our own limit, or by that of the parser: PyYAML 6.0.4 has one, at 1,000 levels."""
    (mistake,) = mistakes("[" * levels)
    assert mistake.startswith("r.yaml:1:")
    if levels < 1_000:
        assert "levels deep" in mistake


def test_bytes_that_are_no_utf8_are_named_by_place() -> None:
    assert mistakes(b"backend: verl\nname: \xff\n") == ["r.yaml:2:7: byte 0xff is not UTF-8"]


def test_a_nul_byte_is_an_error() -> None:
    assert "not allowed in YAML" in mistakes(b"a: \x00")[0]


def test_a_file_too_large_is_refused() -> None:
    assert "at most 1,000,000" in mistakes(b"#" * 1_000_001)[0]


def test_an_empty_file_is_no_recipe() -> None:
    assert "a recipe is a mapping" in mistakes(b"")[0]


@pytest.mark.parametrize("value", ["Reply like #general would", "#x", "1 # one", "[a, b] # c"])
def test_set_loses_nothing_to_a_comment_of_yaml(value: str) -> None:
    assert "is a comment to YAML; put the value in double quotes" in mistakes(MINIMAL, f"description={value}")[0]
    for written, meant in ((json.dumps(value), value), ("C#", "C#")):
        assert load_text(MINIMAL, Path("r.yaml"), [f"description={written}"]).recipe.description == meant


def test_set_overrides_a_field_and_is_validated_like_the_file() -> None:
    loaded = load_text(MINIMAL, Path("r.yaml"), ["training.epochs=1", "data.train[0].max_samples=5"])
    assert (loaded.recipe.training.epochs, loaded.recipe.data.train[0].max_samples) == (1.0, 5)
    assert mistakes(MINIMAL, "training.epochs=abc")[0].startswith("--set training.epochs=abc: training.epochs:")


@pytest.mark.parametrize("text", ["training.epochs", "=1", "data.train[7].path=x", "backend.x=1"])
def test_an_override_without_place_is_an_error(text: str) -> None:
    assert mistakes(MINIMAL, text)


def test_defaults_depend_on_method_and_tuning() -> None:
    rate = {
        (method, tuning): load_text(
            MINIMAL.replace(b"sft", method.encode()) + f"tuning: {{type: {tuning}}}\n".encode(), Path("r.yaml")
        ).recipe.training.learning_rate
        for method in ("sft", "dpo", "orpo", "kto")
        for tuning in ("lora", "full")
    }
    assert rate[("sft", "lora")] == 2e-4
    assert rate[("sft", "full")] == 2e-5
    assert rate[("orpo", "lora")] == 8e-6
    assert rate[("kto", "lora")] == rate[("dpo", "lora")] == 5e-5


def test_alpha_is_twice_the_rank_unless_given() -> None:
    recipe = load_text(MINIMAL + b"tuning: {rank: 12}\n", Path("r.yaml")).recipe
    assert recipe.tuning.alpha == 24


def test_a_recipe_is_found_by_path_or_name(minimal: Path) -> None:
    assert load(minimal).recipe.name == "recipe"
    assert load("quickstart").recipe.name == "quickstart"
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        load("quikstart")


def test_local_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    file = tmp_path / "r.yaml"
    file.write_text("backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: rows.jsonl}]}\n")
    assert load(file).recipe.data.train[0].path == str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("name", trainings())
def test_what_a_run_keeps_is_a_valid_recipe_with_the_same_meaning(name: str) -> None:
    from runner.runs.rundir import resolved_yaml

    loaded = load(name)
    again = load_text(resolved_yaml(loaded).encode(), Path("/elsewhere/r.yaml"), sources_needed=False)
    assert loaded.recipe == again.recipe


def test_a_text_that_looks_like_a_number_is_one_in_what_a_run_keeps_too(minimal: Path) -> None:
    from runner.runs.rundir import resolved_yaml

    loaded = load(minimal, ["description='1e5'"])
    again = load_text(resolved_yaml(loaded).encode(), Path("/elsewhere/r.yaml"), sources_needed=False)
    assert loaded.recipe.description == "1e5" and loaded.recipe.description == again.recipe.description


@given(st.text(st.characters(codec="utf-8"), max_size=6) | st.from_regex(r"[-+0-9._eExXoOnaN]{1,6}", fullmatch=True))
@example("1e5")  # text in YAML 1.1, a number in 1.2
@example("no")
@settings(deadline=None)
def test_text_stays_text_in_what_is_written(text: str) -> None:
    written = {"a": text, "b": [text, 1.0, 1e-5, True, None, 3]}
    for flow in (True, False):
        assert parse(dump(written, flow=flow).encode(), "").value == written


def test_a_recipe_cannot_be_changed(minimal: Path) -> None:
    recipe = load(minimal).recipe
    with pytest.raises(AttributeError):
        recipe.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        recipe.backend_options["x"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    "given,every", [("", 6), ("checkpoint.every=null", 6), ("checkpoint.every=4", 2), ("checkpoint.every=4.0", 2)]
)
def test_there_is_a_checkpoint_wherever_one_is_scored(given: str, every: int) -> None:
    """quickstart's own is 12."""
    asked = ["eval.every=6", *([given] if given else ["checkpoint={}"])]
    assert load("quickstart", asked).recipe.checkpoint.every == every
    assert load("quickstart", [*asked, "eval.every=6.0"]).recipe.checkpoint.every == every
    assert load("quickstart", ["eval.every=6", "eval.suites=[]", "checkpoint={}"]).recipe.checkpoint.every == 500


@pytest.mark.parametrize(
    "files,refused", [((), True), (("config.json",), True), (("model-00001-of-2.safetensors",), False)]
)
def test_an_adapter_is_no_model(files: tuple[str, ...], refused: bool, tmp_path: Path) -> None:
    """PEFT's directory is told by what it has not: the base's weights."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m/adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    for name in ("adapter_model.safetensors", *files):
        (tmp_path / "m" / name).write_text("{}")
    (tmp_path / "rows.jsonl").write_text("{}")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("backend: llamafactory\nmethod: sft\nmodel: {path: ./m}\ndata: {train: [{path: rows.jsonl}]}\n")
    if not refused:
        assert load(recipe).recipe.model.path == str(tmp_path / "m")
        return
    with pytest.raises(UserError, match=r"model.path: .* is a PEFT adapter of org/base, not a model; .*recipe merge"):
        load(recipe)


def test_a_path_on_the_command_line_is_relative_to_where_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe of the catalogue lies inside the installed package: no file of the user's is beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.jsonl", "held.jsonl"):
        (tmp_path / name).write_text('{"prompt": "a", "response": "b"}\n', encoding="utf-8")
    (tmp_path / "weights").mkdir()
    whole = load("quickstart", ["data.train=[{path: mine.jsonl}]", "data.validation={sources: [{path: held.jsonl}]}"])
    assert whole.recipe.data.train[0].path == str(tmp_path / "mine.jsonl")
    assert whole.recipe.data.validation.sources[0].path == str(tmp_path / "held.jsonl")
    single = load("quickstart", ["data.train[0].path=./mine.jsonl", "eval.scorer=embedding:weights"]).recipe
    assert single.data.train[0].path == str(tmp_path / "mine.jsonl")
    assert single.eval.scorer == f"embedding:{tmp_path / 'weights'}"
    assert load("quickstart", ["model.path=some/model"]).recipe.model.path == "some/model"


def test_a_relative_path_that_is_not_there_is_looked_for_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"no such file: {tmp_path / 'none.jsonl'}")):
        load("quickstart", ["data.train=[{path: none.jsonl}]"])


@pytest.mark.parametrize("given", ["logging=tensorboard", "logging=[tensorboard]"])
def test_one_word_is_a_list_of_one(given: str) -> None:
    assert load_text(MINIMAL, Path("r.yaml"), [given]).recipe.logging == ("tensorboard",)
    assert load_text(MINIMAL + given.replace("=", ": ").encode(), Path("r.yaml")).recipe.logging == ("tensorboard",)


def test_a_chat_template_is_one_of_ours_by_name_or_a_file(tmp_path: Path) -> None:
    own = tmp_path / "chatml.jinja"
    own.write_text("{{ messages }}")
    for name, expected in (("chatml", TEMPLATES / "chatml.jinja"), ("chatml.jinja", own), ("./chatml.jinja", own)):
        text = MINIMAL.replace(b"a/b}\ndata", f"a/b, chat_template: {name}}}\ndata".encode())
        assert load_text(text, tmp_path / "r.yaml").recipe.model.chat_template == str(expected)


def test_an_unknown_chat_template_is_told_what_there_is() -> None:
    (found,) = mistakes(MINIMAL, "model.chat_template=chatlm")
    assert "no such file" in found and "known by name are alpaca, chatml, " in found and "did you mean" in found
