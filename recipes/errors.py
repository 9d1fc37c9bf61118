"""The user's mistakes: one type, printed at one boundary, exit code 2."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from recipes.secret import hide

SHOWN = 50  # mistakes at once: who has more will not read them


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake of the user and its place; `str()` gives `file:line:column: field: text`, without secrets."""

    text: str
    file: str = ""
    line: int = 0
    column: int = 0
    field: str = ""

    def __str__(self) -> str:
        place = ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])
        said = ": ".join(part for part in (place, self.field, self.text) if part)
        return hide(said).encode(errors="backslashreplace").decode()  # half a character cannot be printed


class UserError(Exception):
    """Something the user can mend: every problem that was found, in the order of the file."""

    def __init__(self, *problems: Problem | str) -> None:
        found = [p if isinstance(p, Problem) else Problem(text=p) for p in problems]
        if len(found) > SHOWN:
            left = f"… and {len(found) - SHOWN:,} mistakes more; mend these first"
            found[SHOWN:] = [dataclasses.replace(found[SHOWN], field="", text=left)]
        self.problems = tuple(found)
        super().__init__("\n".join(map(str, self.problems)))


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` where an allowed word is near, else an empty string."""
    near = difflib.get_close_matches(str(word)[:80], list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
