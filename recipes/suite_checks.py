"""Suites that a recipe could not be scored by: told before the training, not hours later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recipes import schema
from recipes.errors import Problem, did_you_mean
from recipes.methods import METHODS
from recipes.paths import local_path
from recipes.suites import LM_EVAL, ROW_SUITES, absolute_suite, no_replies, suite_id, task_file
from recipes.yaml_text import Document, Values

ANSWERED = ("generation", "reference")  # of data.test_prompts, which are training rows where none are held out


def suite_problems(value: Values, document: Document, root: Path, *, held_out: bool) -> Iterator[Problem]:
    """The suites without rows to ask, and a scorer without a model; `held_out`: the recipe has validation rows."""
    judged, method = value.get("eval", {}), value["method"]
    prompts = value["data"].get("test_prompts", schema.leaves()["data.test_prompts"]["default"])
    scores = METHODS[method].scores
    if scores and judged.get("engine") == "vllm":
        yield document.problem(("eval", "engine"), "vllm takes no reward model; use transformers")
    for index, suite in enumerate(judged.get("suites", [])):
        if scores and (text := no_replies(suite)):
            yield document.problem(("eval", "suites", index), text)
            continue
        if suite not in ROW_SUITES or suite in judged.get("data", {}):
            continue
        text = lacking(suite, method)
        if text:
            text += f"; take it out, or give rows of its own as eval.data.{suite}"
        elif not held_out and not (suite in ANSWERED and prompts):
            text = f"{suite} needs rows that are held out; set data.validation.fraction: 0.1, say, or eval.data.{suite}"
        if text:
            yield document.problem(("eval", "suites", index), text)
    yield from _lm_eval_problems(value, document, root)
    kind, colon, where = judged.get("scorer", "").partition(":")
    if colon and not (local_path(where, root) or Path(where)).is_dir():
        text = (
            f"no such directory: {local_path(where, root) or where}; the model of an {kind} scorer is a directory here"
        )
        yield document.problem(("eval", "scorer"), text)


def _lm_eval_problems(value: Values, document: Document, root: Path) -> Iterator[Problem]:
    """Task files that are not there or are called alike, and a thinking model whose thoughts would be its answer."""
    judged = value.get("eval", {})
    seen: dict[str, str] = {}
    for index, suite in enumerate(judged.get("suites", [])):
        if not suite.startswith(LM_EVAL):
            continue
        if task_file(suite):
            path = Path(absolute_suite(suite, root).removeprefix(LM_EVAL))
            if not path.is_file():
                siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
                text = f"no such file: {path}{did_you_mean(path.name, siblings)}"
                yield document.problem(("eval", "suites", index), text)
        if other := seen.get(suite_id(suite)):
            text = f"{suite} and {other} would both be called {suite_id(suite)}; give one of the files another name"
            yield document.problem(("eval", "suites", index), text)
        seen[suite_id(suite)] = suite
    thinks = value["model"].get("chat_template_kwargs", {}).get("enable_thinking") is True
    if seen and thinks and not judged.get("lm_eval", {}).get("think_end_token"):
        text = "missing; with enable_thinking: true an answer begins behind it: set </think>, say"
        yield document.problem(("eval", "lm_eval", "think_end_token"), text)


def lacking(suite: str, method: str) -> str:
    """Why the rows of a method cannot serve a suite; "" where they can."""
    rows = METHODS[method].rows
    if suite in ANSWERED and not rows.chat:
        return f"{method} rows have no prompt"
    if suite == "preference" and not rows.pair:
        return f"{method} rows have no chosen and rejected replies"
    if suite == "perplexity" and not rows.reply:
        return f"{method} rows have no reply"
    return ""
