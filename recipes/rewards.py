"""The rewards of GRPO: what a reply earns, as pure functions; standard library only, as the trainer's workers need.

    score(load(recipe.grpo.rewards), reply, reference, row).total

A new reward is one function, one line in REWARDS and one name in the schema.
"""

from __future__ import annotations

import importlib.util
import math
import re
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

from recipes.figures import NARROW, figures
from recipes.rouge import rouge_l, words
from recipes.types import Reward

Function = Callable[[str, str, Mapping[str, Any]], float]  # (reply, reference, row)

ANSWER = re.compile(r"####|\banswer\s*(?:is\b|:)\s*:?|答案\s*(?:是|为|:)\s*:?", re.IGNORECASE)
BRACE = re.compile(r"\\boxed\s*\{|[{}]")


class RewardError(Exception):
    """A reward could not be computed; never counted as 0. The message says which and why."""


@dataclass(frozen=True)
class Score:
    """What one reply earned: the weighted sum, and each reward's own value by name."""

    total: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Named:
    """A reward ready to be called."""

    name: str
    weight: float
    function: Function


def final_answer(text: str) -> str:
    """What stands in the last \\boxed{}, or else after the last `####`, `answer is`, `答案是`; or else all of it."""
    text = unicodedata.normalize("NFKC", text)
    boxed = _boxed(text)
    return ANSWER.split(text)[-1] if boxed is None else boxed


def _boxed(text: str) -> str | None:
    """What stands in the last \\boxed{} that is closed, its own braces in pairs; None without any."""
    opened: list[int] = []  # behind each brace that is open, of a box or not
    boxes: dict[int, int] = {}  # where each box begins, and where it ends
    for brace in BRACE.finditer(text):
        if brace[0] != "}":
            opened.append(brace.end() if len(brace[0]) > 1 else -1)
        elif opened and (begin := opened.pop()) > 0:
            boxes[begin] = brace.start()
    last = max(boxes, default=None)
    return None if last is None else text[last : boxes[last]]


def normalised(text: str) -> str:
    """For comparison: width and case folded, spaces as one, no quotes or full stop around."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip("\"'`*“”‘’「」『』 ").rstrip(".。!！ ")


def exact(reply: str, reference: str) -> float:
    """1 where the reply's final answer is the reference's: 'The answer is: Paris.' is 'paris'."""
    return float(normalised(final_answer(reply)) == normalised(final_answer(reference)))


def last_number(text: str) -> Decimal | None:
    """The first number after the last `####` (GSM8K), or else the last one: '$1,200.50' is 1200.5; None without any."""
    _, marker, after = text.translate(NARROW).rpartition("####")
    found = figures(after)
    return found[0 if marker else -1] if found else None


def number(reply: str, reference: str) -> float:
    """1 where the reply's number equals the reference's."""
    wanted = last_number(reference)
    if wanted is None:
        raise RewardError(f"number: the reference {reference[:60]!r} has no number")
    return float(last_number(reply) == wanted)


def length(reply: str, target: int) -> float:
    """1 at `target` words, falling to 0 at none and at twice as many."""
    return max(0.0, 1 - abs(len(words(reply)) - target) / target)


REWARDS: dict[str, Callable[[Reward], Function]] = {
    "exact": lambda _: lambda reply, reference, row: exact(reply, reference),
    "number": lambda _: lambda reply, reference, row: number(reply, reference),
    "regex": lambda told: lambda reply, reference, row: float(bool(re.search(told.pattern or "", reply))),
    "length": lambda told: lambda reply, reference, row: length(reply, told.target or 1),
    "rouge": lambda _: lambda reply, reference, row: rouge_l(reply, reference),
    "function": lambda told: _own(told.path or ""),
}

OF_ANSWER = ("exact", "number", "rouge")  # those that compare a reply with the row's answer


def load(rewards: Sequence[Reward]) -> list[Named]:
    """The rewards of a recipe, ready to be called; a second one of a name is `name-2`.

    Raises:
        RewardError: a function's file cannot be imported, or lacks it.
    """
    seen: Counter[str] = Counter()
    found = []
    for reward in rewards:
        name = (reward.path or "").rpartition(":")[2] if reward.type == "function" else reward.type
        seen[name] += 1
        called = name if seen[name] == 1 else f"{name}-{seen[name]}"
        found.append(Named(called, reward.weight, REWARDS[reward.type](reward)))
    return found


def score(rewards: Sequence[Named], reply: str, reference: str, row: Mapping[str, Any]) -> Score:
    """What a reply to a row's prompt earns.

    Raises:
        RewardError: a reward raised, or gave something else than a finite number.
    """
    parts = {reward.name: _value(reward, reply, reference, row) for reward in rewards}
    return Score(sum(reward.weight * parts[reward.name] for reward in rewards), parts)


def _value(reward: Named, reply: str, reference: str, row: Mapping[str, Any]) -> float:
    try:
        value = reward.function(reply, reference, row)
    except RewardError:
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise RewardError(f"{place.filename}:{place.lineno}: {type(error).__name__}: {error}") from error
    if not isinstance(value, Real) or not math.isfinite(value):
        code = getattr(reward.function, "__code__", None)
        where = f"{code.co_filename}:{code.co_firstlineno}: " if code else ""
        raise RewardError(f"{where}{reward.name}: gave {value!r}; a reward is a finite number")
    return float(value)


def _own(path: str) -> Function:
    """The function that `file.py:function` names."""
    file, _, name = path.rpartition(":")
    spec = importlib.util.spec_from_file_location(f"reward_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise RewardError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise RewardError(f"{place.filename}:{place.lineno}: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RewardError(f"{file}: no function {name!r}")
    return function  # type: ignore[no-any-return]
