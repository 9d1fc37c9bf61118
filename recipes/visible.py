"""Text of others on a terminal: what would move its cursor, change its title or turn its letters around is shown, not
done."""

from __future__ import annotations

import re

# C0 but for tab and newline, DEL and C1, and the characters that reorder or hide what stands beside them.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff]"
)
# Colours and cursor moves in a log are noise; what they enclose is not.
_ESCAPES = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")


def visible(text: str) -> str:
    """The text with control and invisible characters as `\\x1b` or `\\u202e`."""
    return _HIDDEN.sub(_shown, text)


def visible_log(text: str) -> str:
    """The same of a log, from which colours and cursor moves are left out; a carriage return ends a line."""
    return visible(_ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
