"""What must not be written down: values of variables named like secrets, and what looks like a token or a password.

Names alone are a list that is never long enough, so a value's own shape counts too.
"""

from __future__ import annotations

import re

NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTHORIZATION|COOKIE|SESSION|PRIVATE|(?:^|_)(?:KEYS?|PWD|PAT|JWT|SAS|AUTH|"
    r"DSN)(?:$|_)|API_?KEY|CONNECTION_?STRING|_SAS|SAS_",
    re.IGNORECASE,
)
NOT_SECRET = re.compile(r"_PATH$|_FILE$|_DIR$|^PWD$|^OLDPWD$|_SOCK$|^XDG_|^SSH_(?:CLIENT|CONNECTION|TTY)$|PARALLELISM")
# A user with a password in an address.
ADDRESSED = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
# Tokens that say what they are by their first letters, JSON web tokens, private keys, and passwords in addresses.
SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|"
    r"xox[abeprs]-[\w-]{10,}|AKIA[A-Z0-9]{12,}|ASIA[A-Z0-9]{12,}|AIza[\w-]{30,}|npm_[A-Za-z0-9]{30,}|"
    r"pypi-[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
    rf"|{ADDRESSED.pattern}"
    r"|(?<=[Bb]earer )[\w.~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
HIDDEN = "[redacted]"


def hide(text: str) -> str:
    """The text without what looks like a secret."""
    return SHAPES.sub(HIDDEN, text)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds what must not be shown, by its name or its value."""
    named = NAME.search(name) and not NOT_SECRET.search(name)
    return bool(named or SHAPES.search(value))
