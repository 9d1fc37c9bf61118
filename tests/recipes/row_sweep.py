"""Rows of the shapes that people have, through the pass of a preparation: ids and mask by four families of templates.

What each row means is written here turn by turn, and what a template makes of turns in tests/recipes/families.py.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from recipes.encode import Encoded, Encoder
from recipes.schema import schema, with_defaults
from recipes.typed import from_json, to_json
from runner.data.passes import Preparation
from runner.data.spec import PrepareSpec, source_of
from tests.recipes.families import FAMILIES, Message
from tests.recipes.sweep import TEMPLATES, ToyTokenizer, _shown, conversation, encoder_of, reference

NAMES = ("qwen3", "llama3", "nemo", "gemma3")
HH = "\n\nHuman: What is APR?\n\nAssistant: A rate.\n\nHuman: Of what?\n\nAssistant: "
GOOD, BAD = "Of a loan, a year.", "Of a bank."
ASKED = conversation("What is APR?", "A rate.", "Of what?")

USER, REPLY = {"role": "user", "content": "What is APR?"}, {"role": "assistant", "content": "A rate."}
PAIR = [[*ASKED, {"role": "assistant", "content": said}] for said in (GOOD, BAD)]
SINGLE = [conversation("What is APR?", said) for said in (GOOD, BAD)]


class Case(NamedTuple):
    """A row, and its conversations with whether only the last reply of each is learned.

    fields: of the recipe's data; `source` those of its source.
    """

    method: str
    row: dict[str, Any]
    meant: list[list[Message]]
    fields: dict[str, Any] = {}  # noqa: RUF012 (read only)


CASES = {
    "HH-RLHF": Case("dpo", {"chosen": HH + GOOD, "rejected": HH + BAD}, PAIR),
    "shared turns": Case(
        "dpo",
        {
            "chosen": [*ASKED, {"role": "assistant", "content": GOOD}],
            "rejected": [*ASKED, {"role": "assistant", "content": BAD}],
        },
        PAIR,
    ),
    "LLaMA-Factory's pairs": Case(
        "dpo",
        {
            "conversations": [{"from": "human", "value": "What is APR?"}],
            "chosen": {"from": "gpt", "value": GOOD}, "rejected": json.dumps({"from": "gpt", "value": BAD}),
        },
        SINGLE,
    ),
    "instruction of a pair": Case("orpo", {"instruction": "What is APR?", "chosen": GOOD, "rejected": BAD}, SINGLE),
    "UltraFeedback": Case(
        "dpo",
        {
            "instruction": "What is APR?",
            "completions": [
                {"response": BAD, "overall_score": 1.5}, {"response": "Hm.", "overall_score": 5},
                {"response": GOOD, "overall_score": 9.0},
            ],
        },
        SINGLE,
    ),
    "ranks": Case("dpo", {"prompt": "What is APR?", "responses": [BAD, GOOD], "ranks": [2, 1]}, SINGLE),
    "thumbs": Case("kto", {"conversations": [USER, {"role": "assistant", "content": GOOD}], "label": "👍"}, SINGLE[:1]),
    "instruction for GRPO": Case("grpo", {"instruction": "What is APR?", "input": ""}, [conversation("What is APR?")]),
    "merged": Case(
        "sft",
        {
            "messages": [
                {"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."},
                USER, {"role": "user", "content": "Of a loan."}, REPLY, {"role": "user", "content": "Bye."},
            ]
        },
        [conversation("What is APR?\n\nOf a loan.", "A rate.", system="Be brief.\n\nBe kind.")],
        {"irregular": "merge"},
    ),
    "columns": Case(
        "sft",
        {"title": "Loans", "question": "What is APR?", "reply": "A rate."},
        [conversation("Loans\nWhat is APR?", "A rate.")],
        {"source": {"columns": {"instruction": "{title}\n{question}", "output": "reply"}}},
    ),
    "thinking dropped": Case(
        "sft",
        {"messages": [USER, {**REPLY, "reasoning_content": "hm"}]},
        [conversation("What is APR?", "A rate.")],
        {"thinking": "drop"},
    ),
    "last turn": Case(
        "sft", {"prompt": ASKED, "response": GOOD, "system": "Be brief."},
        [conversation("What is APR?", "A rate.", "Of what?", GOOD, system="Be brief.")], {"train_on": "last_turn"},
    ),
}  # fmt: skip


def differences() -> Iterator[str]:
    """What differs, a line each."""
    for name in NAMES:
        family = FAMILIES[name]
        tokenizer = ToyTokenizer((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"), family)
        encoder = encoder_of(tokenizer, family)
        for shape, case in CASES.items():
            for text in _of_case(case, encoder, tokenizer, name):
                yield f"{name}, {shape}: {text}"
        for of_rows in (_of_feedback, _of_irregular):
            yield from (f"{name}, {of_rows.__name__}: {text}" for text in of_rows(encoder, tokenizer, name))


def _preparation(case: Case, file: Path, encoder: Encoder) -> Preparation:
    fields = {key: value for key, value in case.fields.items() if key != "source"}
    source = to_json(source_of(file, **case.fields.get("source", {})))
    given = {"train": [source], "max_length": 500, **fields}
    data = with_defaults(given, schema()["properties"]["data"])
    spec = {"method": case.method, "model": {}, "data": data, "max_length": 500, "directory": str(file.parent)}
    return Preparation(from_json(PrepareSpec, spec), encoder)


def _passed(case: Case, rows: list[Any], encoder: Encoder) -> tuple[Preparation, list[Any]]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "rows.jsonl")
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        one = _preparation(case, file, encoder)
        return one, list(one.rows(one.data.train))


def _compared(
    parts: list[Encoded], meant: list[list[Message]], tokenizer: ToyTokenizer, name: str, *, last_only: bool
) -> Iterator[str]:
    for found, messages in zip(parts, meant, strict=True):
        ids, labels = reference(tokenizer, FAMILIES[name].segments(messages, last_only) or [])
        if (found.ids, found.labels) != (ids, labels):
            shown = _shown(tokenizer, found.ids, found.labels)
            yield f"got {shown}, expected {_shown(tokenizer, ids, labels)}"


def _of_case(case: Case, encoder: Encoder, tokenizer: ToyTokenizer, name: str) -> Iterator[str]:
    _, kept = _passed(case, [case.row] * 2, encoder)  # KTO needs another row
    last_only = case.method != "sft" or case.fields.get("train_on") == "last_turn"
    if len(kept) != 2:
        yield f"{len(kept)} rows are kept, expected 2"
    for _, parts, _ in kept:
        own = parts[:1] if case.method == "kto" else parts  # the other part: `_of_feedback`
        yield from _compared(own, case.meant, tokenizer, name, last_only=last_only)


def _of_feedback(encoder: Encoder, tokenizer: ToyTokenizer, name: str) -> Iterator[str]:
    """Each prompt of KTO stands once more with the reply of the nearest row before it, around the end, of another."""
    for seed in range(20):
        chance = random.Random(f"{name} {seed}")
        asked = [chance.choice(("What is APR?", "And a bond?", "Why so?")) for _ in range(chance.randint(2, 9))]
        rows = [
            {"prompt": prompt, "completion": f"reply {n}", "label": chance.random() < 0.5}
            for n, prompt in enumerate(asked)
        ]
        _, kept = _passed(Case("kto", {}, []), rows, encoder)
        if [row["label"] for row, _, _ in kept] != [row["label"] for row in rows]:
            yield f"{seed}: {len(kept)} of {len(rows)} rows, or other labels"
            continue
        for n, (_, parts, _) in enumerate(kept):
            order = [*range(n - 1, -1, -1), *range(len(rows) - 1, n, -1)]
            other = next((k for k in order if asked[k] != asked[n]), order[0])
            meant = [conversation(asked[n], f"reply {k}") for k in (n, other)]
            for text in _compared(parts, meant, tokenizer, name, last_only=True):
                yield f"{seed}, row {n + 1}: {text}"


IRREGULAR = (
    [USER, USER, REPLY], [USER, REPLY, REPLY], [USER, {"role": "system", "content": "Hm."}, REPLY], [USER, REPLY, USER],
)  # fmt: skip


def _of_irregular(encoder: Encoder, tokenizer: ToyTokenizer, name: str) -> Iterator[str]:
    """Of conversations that do not alternate none is left, each is counted; those around them stay as they are."""
    good = [conversation("What is APR?", f"reply {n}", system="Be brief." if n % 2 else None) for n in range(5)]
    rows = [turns for n, one in enumerate(good) for turns in (one, *IRREGULAR[n : n + 1])]
    one, kept = _passed(Case("sft", {}, [], {"irregular": "drop"}), [{"messages": turns} for turns in rows], encoder)
    yield from _compared([parts[0] for _, parts, _ in kept], good, tokenizer, name, last_only=False)
    if one.dropped.total() != len(IRREGULAR) or not all(text.startswith("irregular: ") for text in one.dropped):
        yield f"dropped {one.dropped}"


if __name__ == "__main__":
    for line in differences():
        print(line)
