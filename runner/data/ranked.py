"""Several replies to one prompt, each with a score: the best beside the worst.

UltraFeedback's: {"instruction": …, "completions": [{"response": …, "overall_score": 7.5}, …]}; Nectar's, each with its
`rank`; or texts, with `scores` (higher is better) or `ranks` (1 is the best) beside them.
"""

from __future__ import annotations

import math
from typing import Any

from recipes.encode import BadRow, Message
from runner.data.fields import Fields, as_text, loaded, messages_in
from runner.data.honoured import Unwanted, blank, empty
from runner.data.turns import assistant_turn, given, prompt_of

REPLIES = ("completions", "responses")
TEXTS = ("response", "completion", "content", "text", "answer")
SCORES = ("overall_score", "score", "rating", "overall_rating", "reward")
BESIDE, RANKS = ("scores", "ratings"), ("ranks", "rank")
NO_PREFERENCE = "the best and the worst reply have the same score"


def score_margin(row: Fields) -> float:
    """How much better the best reply of a row that `ranked` has read is scored than the worst; of ranks, in steps."""
    key = given(row, *REPLIES)
    scores = _scores(row, loaded(row.get(key)), key)
    return max(scores) - min(scores)


def ranked(row: Fields) -> dict[str, Any]:
    """{"prompt": "Define APR.", "completions": ["The yearly …", "A bank."], "scores": [5, 1]}; or ranks"""
    key = given(row, *REPLIES)
    replies = loaded(row.get(key))
    if not isinstance(replies, (list, tuple)) or len(replies) < 2:
        raise BadRow(f"{key} must be a list of two replies or more")
    texts = [_text(reply, f"{key}[{n}]") for n, reply in enumerate(replies)]
    scores = _scores(row, replies, key)
    order = sorted(range(len(texts)), key=lambda n: scores[n])  # stable: of equal ones the first
    best, worst = max(order, key=lambda n: scores[n]), order[0]
    if scores[best] == scores[worst]:
        raise Unwanted(NO_PREFERENCE)
    if texts[best] == texts[worst]:
        raise BadRow("the best and the worst reply are equal: nothing to prefer")
    return {
        "prompt": prompt_of(row),
        "chosen": [assistant_turn(texts[best])],
        "rejected": [assistant_turn(texts[worst])],
    }


def _text(reply: Any, place: str) -> str:
    if isinstance(reply, dict):
        name = next((name for name in TEXTS if not blank(reply.get(name))), None)
        if name is None:
            raise BadRow(f"{place} has no text; expected one of {', '.join(TEXTS)}")
        reply = reply[name]
    turns: list[Message] = messages_in(reply)
    if turns:
        raise BadRow(f"{place} is a list of messages; give the reply's text")
    text = as_text(reply, place)
    if not text.strip():
        raise BadRow(f"{place} is empty")
    return text


def _scores(row: Fields, replies: Any, key: str) -> list[float]:
    """One number a reply, higher is better."""
    name = next((name for name in (*BESIDE, *RANKS) if not empty(row.get(name))), "")
    values, place = loaded(row.get(name)), name
    if not name:
        name = next((name for name in (*SCORES, *RANKS) if any(_has(reply, name) for reply in replies)), "")
        values = [reply.get(name) if isinstance(reply, dict) else None for reply in replies]
        place = f"{key}[].{name}"
    if not name:
        raise BadRow(
            f"nothing says which of {key} is better; expected {', '.join((*BESIDE, *RANKS))} beside them, or in each "
            f"{', '.join((*SCORES, *RANKS))}"
        )
    if not isinstance(values, (list, tuple)) or len(values) != len(replies):
        raise BadRow(f"{place} must be a list of {len(replies)} numbers, one a reply")
    found = []
    for value in values:
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            raise BadRow(f"{place}: {str(value)[:60]!r} is no number, higher being better") from None
    if not all(map(math.isfinite, found)):
        raise BadRow(f"{place}: a score is no finite number")
    return [-value for value in found] if name in RANKS else found


def _has(reply: Any, name: str) -> bool:
    return isinstance(reply, dict) and not empty(reply.get(name))
