"""Which suites a recipe's own rows can serve, against a plain table of what each method's rows hold."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from recipes import UserError, load_text
from recipes.suites import ROW_SUITES

HELD_OUT = {"none held out": "", "a tenth held out": ", validation: {fraction: 0.1}"}
HAVE_PAIRS, HAVE_REPLIES = ("dpo", "orpo"), ("sft", "dpo", "orpo", "kto")
METHODS = (*HAVE_REPLIES, "grpo")


@pytest.mark.parametrize("method,suite,held_out,own", [*product(METHODS, ROW_SUITES, HELD_OUT, (False, True))])
def test_a_suite_of_rows_needs_rows_that_can_serve_it(
    method: str, suite: str, held_out: str, own: bool, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    data = f", data: {{{suite}: rows.jsonl}}" if own else ""
    backend, rewards = ("verl", "grpo: {rewards: [{type: exact}]}\n") if method == "grpo" else ("llamafactory", "")
    text = (
        f"backend: {backend}\nmethod: {method}\nmodel: {{path: a/b}}\n{rewards}"
        f"data: {{train: [{{path: a/b}}]{HELD_OUT[held_out]}}}\neval: {{suites: [{suite}]{data}}}\n"
    )
    serves = {"preference": method in HAVE_PAIRS, "perplexity": method in HAVE_REPLIES}.get(suite, True)
    # Answers are asked of the test prompts, which are training rows where none are held out.
    enough = held_out != "none held out" or suite in ("generation", "reference")
    try:
        load_text(text.encode(), tmp_path / "r.yaml")
        refused = ""
    except UserError as error:
        refused = str(error)
    assert bool(refused) == (not own and not (serves and enough)), refused
    assert not refused or (f"eval.data.{suite}" in refused and "eval.suites[0]: " in refused)


def test_the_recipe_of_a_run_loads_whatever_its_suites() -> None:
    text = b"backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"
    loaded = load_text(text, Path("r.yaml"), ["eval.suites=[preference]"], sources_needed=False)
    assert loaded.recipe.eval.suites == ("preference",)
