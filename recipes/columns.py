"""A value of a source's `columns`: the name of a column, or a text that is made of several."""

from __future__ import annotations

from string import Formatter


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
