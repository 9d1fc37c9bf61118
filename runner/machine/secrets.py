"""What must not be shown, nor given to a child: secrets are taken out of logs and environments."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from recipes.secret import HIDDEN, NAME, NOT_SECRET, SHAPES, hide, is_secret

SHORTEST = 4  # a shorter value would take half the log with it
# Secrets that a child may need for its work: model hubs, experiment trackers, object stores.
NEEDED = re.compile(
    r"^(?:HF_|HUGGING|WANDB_|SWANLAB_|MLFLOW_|TRACKIO_|MODELSCOPE_|AWS_|GOOGLE_|AZURE_|UV_|PIP_|\w+_proxy$)",
    re.IGNORECASE,
)


def secrets(env: Mapping[str, str]) -> list[str]:
    """The texts to take out of a log, the longest first; of a value of several lines, each line."""
    found: set[str] = set()
    for name, value in env.items():
        if NAME.search(name) and not NOT_SECRET.search(name):
            found |= {value, *value.splitlines()}
        found |= {match.group() for match in SHAPES.finditer(value)}
    return sorted((text for text in found if len(text.strip()) >= SHORTEST), key=len, reverse=True)


def redact(text: str, hidden: Collection[str]) -> str:
    """The text without these values, and without what looks like a secret."""
    for value in hidden:
        text = text.replace(value, HIDDEN)
    return hide(text)


def without_strangers(env: Mapping[str, str], needed: Collection[str] = ()) -> dict[str, str]:
    """The variables that a child gets: no secret but those that its work may need, and those named in `needed`."""
    return {n: v for n, v in env.items() if n in needed or NEEDED.search(n) or not is_secret(n, v)}
