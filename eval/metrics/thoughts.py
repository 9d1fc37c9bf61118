"""What a model thinks before it answers is never scored as its answer.

Known are the tags with which replies of Qwen, DeepSeek, Mistral and others begin a thought, or their prompts for them,
and gpt-oss's channels. A reply whose thought never ends has no answer: a failure of its own kind.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from eval.engines.cache import Answer
from eval.engines.requests import Generate
from recipes.words import TAG

CHANNEL, ANSWER = "<|channel|>", "<|channel|>final<|message|>"
MARKS = (CHANNEL, "<|message|>")
CLOSING = {"[THINK]": "[/THINK]"}
TAIL = 16  # tokens of a prompt in which its last tag is looked for


def reply_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of a reply without control tokens; with those that tell its thought, which are such for some models."""
    special = set(tokenizer.all_special_ids)
    telling = {n for n in special if TAG.fullmatch(token := str(tokenizer.convert_ids_to_tokens(n))) or token in MARKS}
    if telling.isdisjoint(ids):
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))
    kept = [n for n in ids if n not in special or n in telling]
    return str(tokenizer.decode(kept, skip_special_tokens=False))


def as_answer(tokenizer: Any, request: Generate, ids: list[int], finished: bool) -> Answer:
    """The answer to a request by the tokens that a model has made, cut at what thought and answer may take.

    Args:
        ids: up to the token that has ended it, or `request.most` of them.
        finished: whether a token has ended it.
    """
    if request.max_thought_tokens:
        ids, finished = _within(tokenizer, request, ids, finished)
    return {"text": reply_text(tokenizer, ids), "tokens": len(ids), "finished": finished}


def _within(tokenizer: Any, request: Generate, ids: list[int], finished: bool) -> tuple[list[int], bool]:
    tag = opened(tokenizer, request.ids)

    def answers(length: int) -> bool:
        text = reply_text(tokenizer, ids[:length])
        found = parted(text, tag)
        return found is not None and found[1] != text

    thinks = bool(tag) or parted(reply_text(tokenizer, ids), tag) != ("", reply_text(tokenizer, ids))
    start = bisect_left(range(len(ids) + 1), True, key=answers) if thinks else 0
    if start > min(len(ids), request.max_thought_tokens):
        return ids[: request.max_thought_tokens], False
    while start < len(ids) and ids[start] in request.stop:  # a line may stand between thought and answer
        start += 1
    stop = next((n for n in range(start, len(ids)) if ids[n] in request.stop), None)
    answer = ids[start:stop][: request.max_new_tokens]
    return ids[:start] + answer, len(answer) < request.max_new_tokens and (finished or stop is not None)


def opened(tokenizer: Any, prompt: Sequence[int]) -> str:
    """The tag with which a prompt has begun a thought for the reply, as DeepSeek-R1's template does; else nothing."""
    tail = str(tokenizer.decode(list(prompt[-TAIL:]), skip_special_tokens=False)).rstrip()
    last = next(reversed(TAG.findall(tail)), "")
    return last if last and "/" not in last and tail.endswith(last) else ""


def parted(reply: str, tag: str = "") -> tuple[str, str] | None:
    """The thought and the answer of a reply; None where the thought never ends.

    Args:
        reply: as `reply_text` gives it.
        tag: what the prompt has opened.
    """
    if reply.startswith(CHANNEL):
        thought, end, answer = reply.partition(ANSWER)
        return (thought.removesuffix("assistant"), answer) if end else None
    begin = TAG.match(reply.lstrip())
    if not tag and begin and "/" not in begin[1]:
        tag, reply = begin[1], reply.lstrip()[begin.end() :]
    if not tag:
        return "", reply
    thought, end, answer = reply.partition(CLOSING.get(tag, f"</{tag[1:]}"))
    return (thought.strip(), answer.lstrip()) if end else None


def without(answer: Answer, tag: str, limit: str = "eval.max_new_tokens") -> Answer:
    """An answer without its thought, which then stands under `thought`; an error where that never ends.

    Args:
        tag: what the prompt has opened.
        limit: the field that limits the thought.
    """
    if "text" not in answer:
        return answer
    found = parted(answer["text"], tag)
    if found is None:
        told = f"no end within {answer['tokens']} tokens ({limit}; or eval.thinking: off)"
        return {"error": f"unfinished_thought: {told}"}
    thought, text = found
    return {**answer, "text": text, "thought": thought} if thought else {**answer, "text": text}
