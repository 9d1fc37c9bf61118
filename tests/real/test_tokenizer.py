"""`model.tokenizer`: rows are encoded with it, `model/` and what is merged have it, base and tuned are scored by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Prepared, Recipe, inside

pytestmark = pytest.mark.real

TRAINED = """
import json, sys
from datasets import load_from_disk
from transformers import AutoTokenizer
rows = list(load_from_disk(sys.argv[1])["train"]["input_ids"])
print(json.dumps([rows, [AutoTokenizer.from_pretrained(path).batch_decode(rows) for path in sys.argv[2:]]]))
"""
SWAPPED = ("Ġword", "Ġthe")  # the ids of these two are each other's


@pytest.fixture
def apart(tiny_model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model without a tokenizer, and a tokenizer that is nearly that of the tiny model."""
    bare, other = tmp_path / "bare", tmp_path / "other"
    shutil.copytree(tiny_model, bare)
    other.mkdir()
    for file in bare.iterdir():
        if "token" in file.name or file.name.startswith("chat_template"):
            file.rename(other / file.name)
    content = json.loads((other / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    one, two = SWAPPED
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(content))
    return bare, other


def recipe_of(backend: str, model: Path, tokenizer: Path, directory: Path) -> str:
    rows = [{"instruction": f"Say the word {n} times.", "output": " the word" * (n + 1)} for n in range(8)]
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    value = {
        "backend": backend,
        "method": "sft",
        "model": {"path": str(model), "tokenizer": tokenizer.name},
        "data": {"train": [{"path": "rows.jsonl"}], "validation": {"fraction": 0.25}, "max_length": 128},
        "training": {"max_steps": 1, "global_batch_size": 2},
        "eval": {"suites": ["perplexity"]},
    }
    (directory / "r.yaml").write_text(json.dumps(value))
    return "r.yaml"


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
def test_a_tokenizer_apart_goes_where_the_model_goes(
    backend: str,
    apart: tuple[Path, Path],
    tiny_model: Path,
    recipe: Recipe,
    llamafactory_python: Path,
    tmp_path: Path,
) -> None:
    bare, other = apart
    run = Path(recipe("run", recipe_of(backend, bare, other, tmp_path)).stdout.splitlines()[-1])
    places = [str(run / "data/tokenized"), str(other), str(tiny_model)]
    found = inside(llamafactory_python, TRAINED, *places, cwd=tmp_path).splitlines()[-1]
    _, (ours, models_own) = json.loads(found)
    assert all(" the word" in text for text in ours), "rows are encoded with the tokenizer that was given"
    assert all(" word the" in text for text in models_own)
    tuned, base = (json.loads((run / name).read_text()) for name in ("eval/results.json", "eval/base/results.json"))
    assert tuned["provenance"]["model"]["tokenizer"] == base["provenance"]["model"]["tokenizer"]
    rows = [result["metrics"]["perplexity"]["n"] for result in (tuned, base)]
    assert rows == [2, 2]
    recipe("merge", run.name)
    wanted = json.loads((other / "tokenizer.json").read_text())["model"]["vocab"]
    for place in (run / "model", run / "merged"):
        assert json.loads((place / "tokenizer.json").read_text())["model"]["vocab"] == wanted


def test_a_tokenizer_of_another_model_is_refused(apart: tuple[Path, Path], recipe: Recipe, tmp_path: Path) -> None:
    bare, other = apart
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps({**config, "vocab_size": 1000}))
    done = recipe("run", recipe_of("llamafactory", bare, other, tmp_path), code=2)
    assert "model.tokenizer: its ids go up to " in done.stderr and "embedding has 1000 rows" in done.stderr
    (other / "tokenizer.json").unlink()
    done = recipe("run", recipe_of("llamafactory", bare, other, tmp_path), code=2)
    assert f"model.tokenizer: cannot load the tokenizer of {other}" in done.stderr


# Three tokenizers of words for one model: ids by their places, and a template each.
WORDS = ["say", "one", "two", "three", "four", "good", "bad"]
FAMILIES = {
    "chatml": (
        ["<|im_start|>", "<|im_end|>", "user", "assistant"],
        "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}",
        ["<|im_start|>", "user", "say", "<|im_end|>", "<|im_start|>", "assistant"], ["<|im_end|>"],
    ),
    "inst": (
        ["<s>", "</s>", "[INST]", "[/INST]"],
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
        ["<s>", "[INST]", "say", "[/INST]"], ["</s>"],
    ),
    "turn": (
        ["<bos>", "<turn>", "<end>", "model", "user"],
        "<bos>{% for m in messages %}<turn>{{ 'model' if m.role == 'assistant' else m.role }} "
        "{{ m.content | trim }}<end>{% endfor %}{% if add_generation_prompt %}<turn>model {% endif %}",
        ["<bos>", "<turn>", "user", "say", "<end>", "<turn>", "model"], ["<end>"],
    ),
}  # fmt: skip
MADE = """
import json, sys
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
for directory, (words, special, end, template) in json.loads(sys.argv[1]).items():
    made = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, unk_token="<unk>", chat_template=template)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.save_pretrained(directory)
"""
READ = """
import json, sys
from datasets import load_from_disk
print(json.dumps([[[r["input_ids"], r["labels"]] for r in load_from_disk(path)["train"]] for path in sys.argv[1:]]))
"""


def test_rows_up_to_a_number_have_the_ids_of_the_tokenizer_apart(
    prepared: Prepared, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    """`data.max_samples` over two sources, each with its share, in their order; the model has one of its own."""
    said = {"a": ["one", "two", "three", "four", "one", "two"], "b": ["good", "bad"]}
    for name, replies in said.items():
        rows = ({"instruction": "say", "output": reply} for reply in replies)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vocabularies, made, runs = {}, {}, []
    for n, (name, (own, template, _, after)) in enumerate(FAMILIES.items()):
        words = ["<unk>", *own, *WORDS]
        vocabularies[name] = words[n:] + words[:n]  # another id for each word
        special = [word for word in own if not word.isalpha()]
        made[str(tmp_path / name)] = (vocabularies[name], special, after[-1], template)
    inside(llamafactory_python, MADE, json.dumps(made), cwd=tmp_path)
    for name in FAMILIES:
        value = {
            "backend": "llamafactory", "method": "sft", "model": {"path": str(tiny_model), "tokenizer": name},
            "data": {"train": [{"path": "a.jsonl"}, {"path": "b.jsonl"}], "max_length": 64, "max_samples": 4},
            "training": {"max_steps": 1, "global_batch_size": 1},
        }  # fmt: skip
        (tmp_path / "r.yaml").write_text(json.dumps(value))
        run, told = prepared("r.yaml")
        assert "4 rows = 4 trained" in told
        runs.append(str(run / "data/tokenized"))
    for name, found in zip(FAMILIES, json.loads(inside(llamafactory_python, READ, *runs, cwd=tmp_path)), strict=True):
        _, _, before, after = FAMILIES[name]
        expected = []
        for reply in ("one", "two", "three", "good"):
            asked = [vocabularies[name].index(word) for word in before]
            learned = [vocabularies[name].index(word) for word in (reply, *after)]
            expected.append([[*asked, *learned], [*[-100] * len(asked), *learned]])
        assert found == expected, name
