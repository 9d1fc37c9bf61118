"""Where generation stops: the model's end tokens, held against the token with which the template ends a turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.calls import Message
from recipes.mask import Stops, blank, common
from recipes.template import PROBE, QUESTION, REPLY, RULES, BadRow

SYSTEM: tuple[Message, ...] = ({"role": "system", "content": RULES},)
# Two turns whose words can be told apart from every template's own.
SECOND = ({"role": "user", "content": f"{QUESTION}2"}, {"role": "assistant", "content": f"{REPLY}2"})


@dataclass(frozen=True)
class TurnEnd:
    """How replies end, and what the model knows of it.

    stops: for finding the replies.
    generation: ids at which the untrained model's generation stops.
    added: the turn's end where it is none of them, to be written into the trained model: its text.
    ids: what the trained model's generation is to stop at.
    notes: what the user is told.
    """

    stops: Stops
    added: str = ""
    ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def turn_end(
    render: Callable[..., str],
    tokens: Mapping[str, int],
    eos: int | None,
    generation: list[int],
    bos: str | None = None,
) -> TurnEnd:
    """How the replies of a template end, of two probes: a reply at the end, and one with a turn behind it.

    Args:
        tokens: the tokenizer's added tokens, text to id; what ends a turn is one of them.
        eos: the tokenizer's end of sequence.
        generation: the model's own end tokens, of generation_config.json or config.json.
        bos: the tokenizer's beginning of sequence.
    """
    known = {text for text, token in tokens.items() if token in {*generation, eos}}
    # Some templates want a system prompt, some refuse one; some know one turn alone, or no reply at all.
    system = next((given for given in ((), SYSTEM) if _rendered(render, given)), None)
    if system is None:
        return TurnEnd(Stops(frozenset(known)))
    whole = _rendered(render, system)
    alone = whole.rpartition(REPLY)[2]
    inner = _rendered(render, system, SECOND).partition(REPLY)[2].partition(QUESTION)[0] or alone
    every = Stops(frozenset(tokens)).pattern
    own = next(filter(None, (_end(every, known, tail) for tail in (inner[: common(inner, alone)], alone))), "")
    following = every.match(inner, blank(inner))
    next_turn = following[0] if following and not own else ""
    end = own or next_turn
    if not end:
        text = "the chat template writes no token behind a reply at which generation could stop"
        written = f" ({alone.strip()!r} is not one token of this tokenizer)" if alone.strip() else ""
        note = f"{text}{written}: the model will not learn to stop; let it write {{{{ eos_token }}}} there"
        return TurnEnd(Stops(frozenset(known)), notes=(note,))
    notes = []
    if bos and whole.startswith(bos * 2):
        notes.append(f"the chat template begins a conversation with {bos} twice")
    if next_turn:
        notes.append(
            f"the chat template gives replies no end of their own: they end with {end}, as the next turn begins"
        )
    stops, ids = Stops(frozenset({*known, end}), next_turn), generation or [eos for eos in (eos,) if eos is not None]
    if tokens[end] in ids:
        return TurnEnd(stops, notes=tuple(notes))
    at = " and ".join(sorted(text for text, token in tokens.items() if token in ids)) or "no token"
    notes.append(f"a turn ends with {end}, and the model's generation stops at {at}: model/ stops at {end} too")
    return TurnEnd(stops, end, (*ids, tokens[end]), tuple(notes))


def _rendered(render: Callable[..., str], before: Sequence[Message], after: Sequence[Message] = ()) -> str:
    try:
        return render((*before, *PROBE, *after))
    except BadRow:
        return ""


def _end(every: re.Pattern[str], known: set[str], tail: str) -> str:
    """The token that ends a reply, of what stands behind it: a known one, else the first."""
    found = every.findall(tail)
    return next((text for text in found if text in known), "") or next(iter(found), "")


def for_model(end: TurnEnd, template: str) -> dict[str, Any] | None:
    """What export writes into the trained model (adapters/stops.py), or None where the model knows its turns' end.

    The tokenizer's own end of sequence stays where the template writes it, since the rendered text would change, and
    where the turn's end is the beginning of the next one.
    """
    if not end.added:
        return None
    tokenizer = "eos_token" not in template and not end.stops.next_turn
    return {"ids": list(end.ids), "token": end.added, "tokenizer": tokenizer}
