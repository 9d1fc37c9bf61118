# ruff: noqa: E501 (one prompt a line)
"""LongBench's rows as training data, and rows without their middle, by four families of templates: ids and mask.

The prompts are written here as LongBench's dataset2prompt.json has them; what a row keeps is searched for token by token.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.encode import Encoder
from recipes.schema import schema, with_defaults
from recipes.typed import from_json, to_json
from runner.data.passes import TOO_LONG, Preparation
from runner.data.spec import PrepareSpec, source_of
from tests.recipes.families import FAMILIES, Family, Message
from tests.recipes.sweep import TEMPLATES, ToyTokenizer, _shown, conversation, encoder_of, reference

NAMES = ("qwen3", "llama3", "nemo", "gemma3")
ASKED = "Answer the question based on the given passages. Only give me the answer and do not output any other words."
CONTEXT, INPUT = "A {brace} of\n\nlong  words 中文.\n", "Who is it?"
PROMPTS = {
    "hotpotqa": f"{ASKED}\n\nThe following are given passages.\n{CONTEXT}\n\n{ASKED}\n\nQuestion: {INPUT}\nAnswer:",
    "multi_news": f"You are given several news passages. Write a one-page summary of all news. \n\nNews:\n{CONTEXT}\n\nNow, write a one-page summary of all the news.\n\nSummary:",
    "lcc": f"Please complete the code given below. \n{CONTEXT}Next line of code:\n",
    "trec": f"Please determine the type of the question below. Here are some examples of questions.\n\n{CONTEXT}\n{INPUT}",
    "vcsum": f"下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n{CONTEXT}\n\n会议总结：",
}
WORDS = ("a", "word", "of", "so", "\n", "中文", "1", "so.", "{x}", "word", "\n\n")


class Tokenizer(ToyTokenizer):
    """Reads single texts, and writes them; two parts that are joined are never more tokens than they were."""

    near = 1  # how many halves may be taken, the most first

    def __call__(self, texts: Any, **given: Any) -> Any:
        return {"input_ids": self.split(texts)[0]} if isinstance(texts, str) else super().__call__(texts, **given)

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(self.convert_ids_to_tokens, ids))


class Splitting(Tokenizer):
    """Two words that are joined are as many tokens as letters; so a half is tried more than once."""

    near = 3

    def __init__(self, template: str, family: Family) -> None:
        super().__init__(template, family)
        self.pattern = re.compile(self.pattern.pattern.replace("[a-z]+", r"\b(?:a|word|of|so|it|s)\b"), re.DOTALL)


def _encoder(name: str, kind: type[Tokenizer] = Tokenizer) -> tuple[Encoder, Tokenizer, Family]:
    family = FAMILIES[name]
    tokenizer = kind((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"), family)
    return encoder_of(tokenizer, family), tokenizer, family


def _kept(files: dict[str, list[Any]], encoder: Encoder, limit: int, **source: Any) -> tuple[list[Any], Preparation]:
    with tempfile.TemporaryDirectory() as directory:
        for name, rows in files.items():
            Path(directory, f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        given = {"train": [to_json(source_of(directory, **source))], "max_length": limit, "overlong": "middle"}
        data = with_defaults(given, schema()["properties"]["data"])
        spec = {"method": "sft", "model": {}, "data": data, "max_length": limit, "directory": directory}
        one = Preparation(from_json(PrepareSpec, spec), encoder)
        return list(one.rows(one.data.train)), one


def _ids(tokenizer: Tokenizer, family: Family, messages: list[Message]) -> tuple[list[int], list[int]]:
    return reference(tokenizer, family.segments(messages, False) or [])


def without_middle(
    tokenizer: Tokenizer, family: Family, messages: list[Message], limit: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Ids and labels of what fits, the most first: as many tokens from the turn's beginning as from its end."""
    whole = _ids(tokenizer, family, messages)
    if len(whole[0]) <= limit:
        yield whole
        return
    asked = [message for message in messages if message["role"] == "user"]
    turn = next(one for one in asked if len(one["content"]) == max(len(other["content"]) for other in asked))
    ids = tokenizer.split(turn["content"])[0]
    most = (len(ids) + limit - len(whole[0])) // 2  # LongBench halves what there is place for
    for half in range(most, 0, -1):
        text = tokenizer.decode(ids[:half]) + tokenizer.decode(ids[len(ids) - half :])
        found = _ids(tokenizer, family, [{**one, "content": text} if one is turn else one for one in messages])
        if len(found[0]) <= limit:
            yield found


def prompts() -> Iterator[str]:
    """What differs where nothing is cut, a line each."""
    for name in NAMES:
        encoder, tokenizer, family = _encoder(name)
        for answers in ("first", "all"):
            row = {"context": CONTEXT, "input": INPUT, "answers": [" It is 4.", "Four"], "all_classes": ["Four"],
                   "length": 9, "language": "en", "_id": "x"}  # fmt: skip
            files = {subset: [{**row, "dataset": subset}] for subset in PROMPTS}
            kept, _ = _kept(files, encoder, 9000, format="longbench", answers=answers)
            replies = row["answers"][: 1 if answers == "first" else 2]
            meant = [(subset, reply) for subset in sorted(PROMPTS) for reply in replies]
            if len(kept) != len(meant):
                yield f"{name}: {len(kept)} rows, expected {len(meant)}"
            for (subset, reply), (_, (found,), cut) in zip(meant, kept, strict=False):
                ids, labels = _ids(tokenizer, family, conversation(PROMPTS[subset], reply))
                if (found.ids, found.labels, cut) != (ids, labels, False):
                    shown = _shown(tokenizer, found.ids, found.labels)
                    yield f"{name}, {subset}: got {shown}, expected {_shown(tokenizer, ids, labels)}"


def cuts(count: int) -> Iterator[str]:
    """What differs where the middle is cut, over so many conversations of each family and of both tokenizers."""
    for name, kind in itertools.product(NAMES, (Tokenizer, Splitting)):
        encoder, tokenizer, family = _encoder(name, kind)
        for seed in range(count):
            chance = random.Random(f"{name} {seed}")
            turns, words = chance.choice((2, 4)), chance.choice((3, 40, 90))
            texts = [" ".join(chance.choices(WORDS, k=chance.choice((3, words)))) + "?" for _ in range(turns)]
            messages = conversation(*texts, system="Be brief." if chance.random() < 0.3 else None)
            limit = chance.randint(20, 200)
            kept, one = _kept({"rows": [{"messages": messages}]}, encoder, limit, format="messages")
            wanted = list(itertools.islice(without_middle(tokenizer, family, messages, limit), kind.near))
            found = [(part.ids, part.labels) for _, (part,), _ in kept]
            if not all(each in wanted for each in found):
                yield f"{name} {seed}, {limit}: got {[_shown(tokenizer, *each) for each in found]}"
            if len(found) != bool(wanted) or dict(one.dropped) != ({} if wanted else {TOO_LONG: 1}):
                yield f"{name} {seed}, {limit}: {len(found)} rows, dropped {one.dropped}"
            whole = len(_ids(tokenizer, family, messages)[0])
            if kept and kept[0][2] != (whole > limit):
                yield f"{name} {seed}: told to be cut: {kept[0][2]}, of {whole} tokens, at {limit}"


if __name__ == "__main__":
    for line in (*prompts(), *cuts(200)):
        print(line)
