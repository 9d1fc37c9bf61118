"""A source's `columns`: our names, and their values, which are the name of a column or a text made of several."""

from __future__ import annotations

from string import Formatter

# Our names, for each format.
COLUMNS_OF_FORMAT = {
    "alpaca": ("instruction", "input", "output", "system", "tools", "history"),
    "prompt_response": ("prompt", "response", "system", "tools"),
    "messages": ("messages", "system", "tools"),
    "conversations": ("conversations", "system", "tools"),
    "preference": (
        *("prompt", "chosen", "rejected", "messages", "conversations", "instruction", "input", "system", "tools"),
        *("score_chosen", "score_rejected"),
    ),
    "feedback": (
        *("prompt", "completion", "label", "messages", "conversations", "instruction", "input", "system", "tools"),
    ),
    "ranked": (
        *("prompt", "completions", "responses", "scores", "ratings", "ranks"),
        *("messages", "conversations", "instruction", "input", "system", "tools"),
    ),
    "prompts": ("prompt", "answer", "messages", "conversations", "instruction", "input", "system"),
    "text": ("text",),
    "longbench": (),
}


def fields_of(template: str) -> tuple[str, ...]:
    """The columns that a template such as "{title}: {question}" names; none where it is no template.

    Raises:
        ValueError: its braces do not match, or hold more than a name.
    """
    fields = [part for part in Formatter().parse(template) if part[1] is not None]
    for _, name, options, conversion in fields:
        if not name or options or conversion:
            raise ValueError("between braces stands the name of a column, and no more; {{ is a brace")
    return tuple(str(name) for _, name, _, _ in fields)
