"""What the documents tell to type is so: each command parses, each recipe is there, each part of a recipe is valid.

What costs little is run as it stands, guide by guide, in its order; `recipe run` and `sweep` as far as `--dry-run`.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes import catalogue, load, stages_of
from recipes.made import made
from recipes.schema import schema
from recipes.yaml_text import dump, parse_value
from runner.cli import main
from runner.verbs import VERBS
from runner.verbs.parser import parser_with
from tests.conftest import MINIMAL

ROOT = Path(__file__).parent.parent
FIRST_HOUR = ROOT / "docs/first_hour.md"
GUIDES = [FIRST_HOUR, *sorted((ROOT / "docs/guides").glob("*.md"))]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PARSER = parser_with(VERBS)
# What takes a second and needs no backend's environment; `data check` where it is of a file of rows.
CHEAP = ("list", "show", "new", "import", "validate", "plan", "fit", "reward", "data sample", "data check")
AXOLOTL = """\
base_model: acme/base
datasets: [{path: rows.jsonl, type: alpaca}]
adapter: lora
sequence_len: 2048
sample_packing: true
micro_batch_size: 2
gradient_accumulation_steps: 2
evals_per_epoch: 4
"""
LLAMAFACTORY = """\
model_name_or_path: acme/base
stage: sft
finetuning_type: lora
template: llama3
dataset: rows
dataset_dir: .
cutoff_len: 2048
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
"""
INFO = '{"rows": {"file_name": "rows.jsonl", "columns": {"prompt": "prompt", "response": "response"}}}'


def blocks(document: Path, *kinds: str) -> list[str]:
    """The fenced blocks of code of these kinds."""
    return re.findall(rf"^```(?:{'|'.join(kinds)})\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The calls of `recipe` in a block of shell: their variables and arguments."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "recipe" in words and "pip" not in words:
            place = words.index("recipe")
            yield dict(word.split("=", 1) for word in words[:place] if "=" in word), words[place + 1 :]


def parsed(words: list[str], capsys: pytest.CaptureFixture[str]) -> argparse.Namespace:
    try:
        return PARSER.parse_args(words)
    except SystemExit:
        raise AssertionError(f"recipe {shlex.join(words)}: {capsys.readouterr().err}") from None


def unknown(arguments: argparse.Namespace) -> list[str]:
    """Names of recipes that neither the catalogue nor the reader has; the reader's end in .yaml, or stand for any."""
    given = [getattr(arguments, "recipe", None), *getattr(arguments, "recipes", [])]
    names = [name.rpartition(":")[0] or name for name in given if name]
    known = {*catalogue(), *made(), "RECIPE"}
    return [name for name in names if name not in known and not name.endswith((".yaml", ".jsonl"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_of_a_document_is_one(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/mine.yaml").touch()  # the parser looks for a task's file
    for block in blocks(document, "sh", "console"):
        for _, words in commands(block):
            assert unknown(parsed(words, capsys)) == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_commands_within_the_text_of_a_guide_are_ones(guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for code in re.findall(r"`((?:[A-Z_]+=\S+ )*recipe [^`]+)`", guide.read_text("utf-8")):
        for _, words in commands(code):
            assert words[0] in VERBS
            if len(words) > 1:  # `recipe data check` by itself names the verb
                bare = [*words, "rows.jsonl"] if words == ["data", "check"] else words
                bare = [*words, "mine.yaml"] if words == ["data", "preview"] else bare
                assert unknown(parsed(bare, capsys)) == []


def test_a_command_that_is_none_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """The checks above can fail: by an option, and by a recipe that is not there."""
    ((variables, words),) = commands("$ N_GPUS=8 recipe plan quickstart --josn   # as JSON\n")
    assert variables == {"N_GPUS": "8"}
    with pytest.raises(AssertionError, match="--josn"):
        parsed(words, capsys)
    assert unknown(parsed(["plan", "quickstrt"], capsys)) == ["quickstrt"]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guides_commands_run_in_their_order(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks_of_shell = "\n".join(blocks(guide, "sh"))
    prepare(guide, blocks_of_shell, tmp_path)
    ran, shown = 0, ""
    for variables, words in commands(blocks_of_shell):
        verb = " ".join(words[:2]) if words[0] == "data" else words[0]
        if words[0] in ("run", "sweep"):
            words = [*words, "--dry-run"]
        elif verb not in CHEAP or (verb == "data check" and words[2].endswith(".yaml")):
            continue
        with monkeypatch.context() as own:
            for name, value in variables.items():
                own.setenv(name, value)
            code = main(words)
        said = capsys.readouterr()
        too_large = words[0] == "fit" and "what makes it fit" in said.out
        assert code == 0 or too_large, f"recipe {shlex.join(words)}: {code}\n{said.err}"
        ran, shown = ran + 1, shown + said.out + said.err
    assert ran
    if guide == FIRST_HOUR:
        shown += mistaken(tmp_path / "mine.yaml", capsys)
    printed = " ".join(shown.split())
    for line in "\n".join(blocks(guide, "text")).splitlines():
        assert " ".join(line.removesuffix("…").split()) in printed, f"not printed: {line}"


def mistaken(recipe: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of the slip of the first hour."""
    recipe.write_text(recipe.read_text("utf-8").replace("max_steps:", "max_stepz:"), encoding="utf-8")
    assert main(["validate", recipe.name]) == 2
    return capsys.readouterr().err


def prepare(guide: Path, shell: str, directory: Path) -> None:
    """The reader's files: those that the guide shows, and a recipe and rows where it makes none itself."""
    files = {"llama3_lora_sft.yaml": LLAMAFACTORY, "axolotl.yml": AXOLOTL, "dataset_info.json": INFO}
    files["rows.jsonl"] = '{"prompt": "What is a bond?", "response": "A loan that is traded."}\n'
    if guide.stem == "own_reward":
        (reward,), (prompts,), (recipe,) = (blocks(guide, kind) for kind in ("python", "json", "yaml"))
        files |= {"rewards.py": reward, "prompts.jsonl": prompts, "mine.yaml": recipe}
    elif "-o mine.yaml" not in shell:
        text = catalogue()["quickstart"].read_text("utf-8")
        files["mine.yaml"] = re.sub(r"path: data/.*", "path: rows.jsonl", text).replace(
            "format: alpaca", "format: auto"
        )
    for name, text in files.items():
        if f"-o {name}" not in shell:
            (directory / name).write_text(text, encoding="utf-8")


def test_the_reward_of_its_guide_earns_what_the_guide_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    guide = ROOT / "docs/guides/own_reward.md"
    prepare(guide, "", tmp_path)
    assert main(["reward", "try", "mine.yaml", "--reply", "It weighs 30 kg.", "--answer", "30"]) == 0
    assert capsys.readouterr().out.split()[-1] == "1.5"  # the figure, and half of a short reply with a unit


def merged(base: Any, over: Any) -> Any:
    """`over` laid over `base`, mapping by mapping."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


PARTS = [
    (document, part)
    for document in DOCUMENTS
    for part in blocks(document, "yaml")
    if (parse_value(part).keys() <= schema()["properties"].keys())
]


@pytest.mark.parametrize(("document", "part"), PARTS, ids=lambda value: getattr(value, "stem", ""))
def test_every_part_of_a_recipe_in_a_document_is_valid(document: Path, part: str, tmp_path: Path) -> None:
    for name, function in re.findall(r"(\w+\.py):(\w+)", part):
        (tmp_path / name).write_text(f"def {function}(reply, reference, row):\n    return 1.0\n")
    for name in re.findall(r"\b([\w/*]+\.(?:jsonl|csv|yaml))\b", part):
        file = tmp_path / name.replace("*", "one")
        file.parent.mkdir(exist_ok=True)
        file.write_text("question,answer\nWhy?,So.\n" if name.endswith("csv") else '{"prompt": "a", "response": "b"}\n')
    given = parse_value(part)
    least = merged(yaml.safe_load(MINIMAL), {"data": {"validation": {"fraction": 0.1}}})
    file = tmp_path / "recipe.yaml"
    file.write_text(part if "stages" in given else dump(merged(least, given)))
    for one in stages_of(file, scoring=True):
        load(one, scoring=True)


def test_what_is_shown_as_yaml_and_is_no_recipe_is_known() -> None:
    """A mistake in a section's name would make a part pass for something else; lm-eval's task file is the only one."""
    others = [
        sorted(parse_value(part).keys() - schema()["properties"].keys())
        for document in DOCUMENTS
        for part in blocks(document, "yaml")
    ]
    assert [keys[-1] for keys in others if keys] == ["test_split"]
