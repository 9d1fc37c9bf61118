"""Rows for a starter file of each format, in our own words: something to replace, and valid as it is."""

from __future__ import annotations

from collections.abc import Iterator

from recipes.methods import CONVERSATIONS, DOCUMENTS, FEEDBACK, PAIRS
from runner.data.formats import Raw
from runner.data.rewrite import rewritten, rows_of

# A question, a good answer, a worse one.
TEXTS = (
    ("What is 12 % of 250?", "12 % of 250 is 30.", "About 20."),
    ("Name the capital of Norway.", "The capital of Norway is Oslo.", "Bergen, I think."),
    ("Say in one sentence what inflation is.", "Inflation is a lasting rise of prices.", "It is money."),
    ("Which is longer, a mile or a kilometre?", "A mile: it has about 1.609 kilometres.", "A kilometre."),
    ("How many minutes are there in a day?", "A day has 24 · 60 = 1,440 minutes.", "Many minutes."),
    ("把「谢谢」翻译成英语。", "“谢谢”的英语是 “thank you”。", "不知道。"),
)


def samples(count: int, format_name: str) -> Iterator[Raw]:
    """`count` valid rows of a format; those after the first few are numbered, so that none is there twice."""
    kind = rows_of(format_name)
    for number in range(count):
        question, good, worse = TEXTS[number % len(TEXTS)]
        again = number // len(TEXTS)
        question = f"{question} (example {again + 1})" if again else question
        asked, reply = [{"role": "user", "content": question}], {"role": "assistant", "content": good}
        row: Raw = {"prompt": asked, "answer": good}
        if kind is CONVERSATIONS:
            row = {"messages": [*asked, reply]}
        elif kind is DOCUMENTS:
            row = {"text": f"{question}\n{good}"}
        elif kind is PAIRS:
            row = {"prompt": asked, "chosen": [reply], "rejected": [{"role": "assistant", "content": worse}]}
        elif kind is FEEDBACK:
            liked = number % 2 == 0
            said = reply if liked else {"role": "assistant", "content": worse}
            row = {"prompt": asked, "completion": [said], "label": liked}
        yield rewritten(row, format_name, format_name)
