"""`recipe data preview` for real: the ids and the mask that it shows are those which a run trains on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes import find
from tests.real.conftest import Prepared, Recipe, inside

pytestmark = pytest.mark.real
QUICKSTART = str(find("quickstart"))

TRAINED = """
import json, sys
from datasets import load_from_disk
rows = load_from_disk(sys.argv[1])["train"]
print(json.dumps([[row["input_ids"], row["labels"]] for row in rows]))
"""


def test_a_preview_shows_the_ids_and_the_mask_that_are_trained_on(
    recipe: Recipe, prepared: Prepared, tiny_model: Path, llamafactory_python: Path, tmp_path: Path
) -> None:
    """With rows held out, so that the numbers of the training rows are not those of the file."""
    changed = [f"model.path={tiny_model}", "data.validation.fraction=0.3"]
    options = [word for field in changed for word in ("--set", field)]
    run, _ = prepared(QUICKSTART, *changed)
    trained = json.loads(inside(llamafactory_python, TRAINED, f"{run}/data/tokenized", cwd=tmp_path).splitlines()[-1])
    for number in (2, len(trained)):
        found = json.loads(
            recipe("data", "preview", "quickstart", "--row", str(number), "--json", "--diff", *options).stdout
        )
        ids, labels = trained[number - 1]
        assert found["parts"][0]["ids"] == ids
        assert found["parts"][0]["loss"] == [label != -100 for label in labels]
        assert [one["trained"] == one["asked"] == ids[: len(one["asked"])] for one in found["asked"]] == [True]
    after = recipe("data", "preview", "quickstart", "--row", str(len(trained) + 1), *options, code=2)
    assert f"there are {len(trained)}" in after.stderr


def test_a_check_counts_what_the_tokenizer_makes_of_the_rows(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "one"}\n{"text": "one two three"}\n{"text": ""}\n')
    found = json.loads(recipe("data", "check", str(file), "--model", str(tiny_model), "--json").stdout)
    assert found["method"] == "pretrain" and found["usable"] == 2 and found["bad"] == 1
    assert sum(found["lengths"].values()) == 2 and found["tokens"] == 2 + 4  # an end token each


def test_a_check_with_a_model_takes_a_relative_path_and_tells_the_method_of_a_table(
    recipe: Recipe, tiny_model: Path, llamafactory_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "a", "chosen": "b", "rejected": f"{n}"} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = f"import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.Table.from_pylist({rows}), 'rows.parquet')"
    inside(llamafactory_python, code, cwd=tmp_path)
    for name in ("rows.jsonl", "rows.parquet"):
        found = json.loads(recipe("data", "check", name, "--model", str(tiny_model), "--json").stdout)
        assert (found["method"], found["usable"], found["broken"]) == ("dpo", 3, []), name


def test_a_preview_tells_of_a_date_that_the_template_writes(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    turns = "{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}"
    opens = "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
    for name, date, told in (("dated", "{{ strftime_now('%d %b %Y') }}", True), ("plain", "", False)):
        (tmp_path / f"{name}.jinja").write_text(date + turns + opens)
        fields = (f"model.path={tiny_model}", f"model.chat_template={tmp_path / name}.jinja")
        options = [word for field in fields for word in ("--set", field)]
        found = json.loads(recipe("data", "preview", "quickstart", "--json", *options).stdout)
        assert any("writes the date" in note for note in found["notes"]) == told


@pytest.mark.slow
def test_more_than_half_of_the_rows_gone_is_an_error_unless_it_is_allowed(
    recipe: Recipe, prepared: Prepared, tiny_model: Path, tmp_path: Path
) -> None:
    good = [json.dumps({"instruction": f"q{n}", "output": "a"}) for n in range(3)]
    file = tmp_path / "rows.jsonl"
    changed = [
        f"model.path={tiny_model}", f"data.train=[{{path: {file}}}]", "data.on_bad_row=drop", "training.max_steps=1",
        "training.global_batch_size=1", "training.micro_batch_size=1",
    ]  # fmt: skip
    options = [word for field in changed for word in ("--set", field)]
    file.write_text("\n".join([*good, *["{}"] * 4]))
    stopped = recipe("run", "quickstart", *options, code=2)
    assert "4 of 7 rows would be dropped" in stopped.stderr and "data.allow_loss: true" in stopped.stderr
    prepared(QUICKSTART, *changed, "data.allow_loss=true")
    file.write_text("\n".join([*good, *["{}"] * 3]))  # just half
    assert "warning: 3 of 6 rows" in prepared(QUICKSTART, *changed)[1]
