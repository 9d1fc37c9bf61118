"""Replies to the test prompts, to read: greedy, by the model's own chat template, with a few plain figures.

Example prompt: {"prompt": [{"role": "user", "content": "What is a bond?"}], "reference": "A loan.", "held_out": true}
"""

from __future__ import annotations

from pathlib import Path

from eval.encode import BadRow, Text
from eval.engines.cache import Answer
from eval.engines.requests import Generate
from eval.hashes import file_hash, json_hash
from eval.metrics.text import repeated_share
from eval.rows import Row, conversation, half_a_character, not_turns, read_value, rows_file, rows_of, shown
from eval.spec import Spec
from eval.statistics import Measure, mean
from eval.suites import Loaded, Record, Sample, Values, answered
from recipes.errors import UserError


def load(spec: Spec, text: Text, max_positions: int) -> Loaded:
    return asked(spec, text, "generation")


def asked(spec: Spec, text: Text, suite: str) -> Loaded:
    """The samples of a suite that asks these prompts: this one, or that of reference answers.

    Raises:
        UserError: there are no prompts, or some of them are malformed.
    """
    path, prompts = prompts_of(spec, suite)
    samples = [_sample(str(n), prompt, spec, text) for n, prompt in enumerate(prompts)]
    settings = {"decoding": "greedy", "max_new_tokens": spec.max_new_tokens, "n": len(samples)}
    data = {"path": str(path), "hash": file_hash(path), "used": json_hash(prompts)}
    return Loaded(samples=samples, data=data, settings=settings)


def prompts_of(spec: Spec, suite: str) -> tuple[Path, list[Row]]:
    """The test prompts, or the prompts of the validation rows where there are none, and their file.

    Raises:
        UserError: neither is given, or some of them are malformed.
    """
    limit = spec.max_generation_samples or spec.max_samples
    file = rows_file(spec, suite)
    if spec.test_prompts and suite not in spec.data:
        path = Path(spec.test_prompts)
        prompts = read_value(path)
        if not isinstance(prompts, list):
            raise UserError(f"{path}: {suite}: expected a list of objects with prompt, got {shown(prompts)}")
        wrong = [f"{path}: item {n}: {suite}: {text}" for n, p in enumerate(prompts, 1) if (text := _problem(p))]
        if wrong:
            raise UserError(*wrong)
        return path, prompts[:limit]
    if not file:
        raise UserError(f"{suite}: no prompts to answer; give test prompts or validation rows")
    return Path(file), [_prompt_of(row) for row in rows_of(file, suite, limit)]


def _problem(prompt: object) -> str:
    """What is wrong with a test prompt; "" where nothing is."""
    if not isinstance(prompt, dict) or "prompt" not in prompt:
        return f"expected an object with prompt, got {shown(prompt)}"
    reference = prompt.get("reference")
    if reference is not None and not isinstance(reference, str):
        return f"`reference`: expected a text or null, got {shown(reference)}"
    return not_turns("prompt", prompt["prompt"])


def _prompt_of(row: Row) -> Row:
    if "prompt" in row and "answer" in row:
        return {"prompt": row["prompt"], "reference": str(row["answer"]), "held_out": True}
    messages = conversation(row)
    if messages is None:  # a reply that is labelled bad
        return {"prompt": row["prompt"], "reference": None, "held_out": True}
    return {"prompt": messages[:-1], "reference": messages[-1]["content"] or None, "held_out": True}


def _sample(name: str, prompt: Row, spec: Spec, text: Text) -> Sample:
    shown = {key: prompt.get(key) for key in ("prompt", "reference", "held_out")}
    if problem := half_a_character(shown):
        return Sample(id=name, shown=shown, problem=problem)
    try:
        ids = text.chat_ids(prompt["prompt"])
    except BadRow as error:
        return Sample(id=name, shown=shown, problem=str(error))
    return Sample(id=name, requests=(Generate(ids=ids, max_new_tokens=spec.max_new_tokens),), shown=shown)


def record(sample: Sample, answers: list[Answer]) -> Record:
    (answer,) = answers
    return {
        **sample.shown,
        "output": answer["text"],
        "tokens": answer["tokens"],
        "finished": answer["finished"],
        "repeated": repeated_share(answer["text"]),
    }


def measures(records: list[Record], seed: int) -> dict[str, Measure]:
    good, failures = answered(records)
    columns = {
        "tokens": ([float(r["tokens"]) for r in good], "mean new tokens"),
        "finished": ([float(r["finished"]) for r in good], "share that ended before max_new_tokens"),
        "repeated": ([r["repeated"] for r in good], "mean share of word 4-grams seen before in the reply"),
    }
    return {
        f"generation.{name}": mean(
            values, failures=failures, seed=seed, implementation=implementation, share=name != "tokens"
        )
        for name, (values, implementation) in columns.items()
    }


VALUES = {
    "generation.tokens": Values(key="tokens", better="neither"),
    "generation.finished": Values(key="finished", better="neither"),
    "generation.repeated": Values(key="repeated", better="lower"),
}
values = VALUES.get
